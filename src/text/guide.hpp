#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "cake/error.hpp"
#include "text/restriction.hpp"

namespace cake {

enum class GuideKind { json_schema, regex, lark };

/// Checks a constraint that llguidance enforces. The time and memory that it may take are limited; a text whose
/// constraint exceeds them fails.
/// `lenient`: keywords of a JSON schema that cannot be enforced are ignored; otherwise they are an error that names
/// them.
Result<std::shared_ptr<const ConstraintRule>> make_guide_rule(GuideKind kind, std::string text, bool lenient = false);

}  // namespace cake
