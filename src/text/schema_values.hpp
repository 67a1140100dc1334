#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cake/error.hpp"
#include "text/json_grammar.hpp"
#include "text/schema_keywords.hpp"

namespace cake::json_schema {

inline constexpr uint32_t kMostTimes = 256;  // characters or items

struct Counts {
    uint32_t least = 0;
    std::optional<uint32_t> most;
};
/// What two keywords say of a number of characters or items.
Result<Counts> counts(const Json& schema, const char* least_key, const char* most_key, const std::string& at);

/// One of several.
std::string alternatives_of(const std::vector<std::string>& alternatives);

/// The names of rules of the strings, and the integers, that a schema allows.
Result<std::string> rule_of_string(const Json& schema, const std::string& at, JsonRules& rules);
Result<std::string> rule_of_integer(const Json& schema, const std::string& at, JsonRules& rules);

/// The name of a rule of listed values, as far as they are of the schema's types.
Result<std::string> rule_of_values(const Json& values, const Json& schema, const std::string& at, JsonRules& rules);

}  // namespace cake::json_schema
