#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "cake/error.hpp"
#include "text/restriction.hpp"

namespace cake {

inline constexpr size_t kMaxGuideBytes = size_t{1} << 20U;  // largest text of a constraint

enum class GuideKind { json_schema, regex, lark };

/// Checks a constraint that llguidance enforces. The time and memory that it may take are limited; a text whose
/// constraint exceeds them fails.
/// `lenient`: keywords of a JSON schema that cannot be enforced are ignored; otherwise they are an error that names
/// them.
Result<std::shared_ptr<const ConstraintRule>> make_guide_rule(GuideKind kind, std::string text, bool lenient = false);

/// The same for a grammar in Lark that names tokens of this vocabulary.
Result<std::shared_ptr<const ConstraintRule>> make_lark_rule(const Vocabulary& vocabulary, std::string text);

}  // namespace cake
