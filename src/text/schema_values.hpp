#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cake/error.hpp"
#include "text/json_grammar.hpp"
#include "text/schema_keywords.hpp"

namespace cake::json_schema {

inline constexpr uint32_t kMaxTimes = 256;  // max number of characters or items in a bound

struct Counts {
    uint32_t least = 0;
    std::optional<uint32_t> most;
};
/// The bounds that two keywords set on the number of characters or items.
Result<Counts> counts(const Json& schema, const char* least_key, const char* most_key, const std::string& at);

/// A choice between several alternatives.
std::string alternatives_of(const std::vector<std::string>& alternatives);

/// Names of the rules for the strings and for the integers that a schema allows.
Result<std::string> rule_of_string(const Json& schema, const std::string& at, JsonRules& rules);
Result<std::string> rule_of_integer(const Json& schema, const std::string& at, JsonRules& rules);

/// Name of the rule for a list of values. Values that do not have a type of the schema are left out.
Result<std::string> rule_of_values(const Json& values, const Json& schema, const std::string& at, JsonRules& rules);

}  // namespace cake::json_schema
