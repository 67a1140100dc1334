#pragma once

#include <expected>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "cake/error.hpp"

namespace cake::json_schema {

/// Keeps the order of properties.
using Json = nlohmann::ordered_json;

/// JSON pointer to the value `key` below the pointer `at`.
std::string below(const std::string& at, std::string_view key);

/// `at`: JSON pointer to the part that is wrong.
std::unexpected<Error> fail_at(const std::string& at, std::string_view sentence);

/// Fails if a schema has keywords that are not supported, other than those that do not constrain values, or keywords
/// that cannot be combined.
Result<void> check_keywords(const Json& schema, const std::string& at);

/// The types that a schema names or, if it names none, those that its keywords apply to. Empty if there are none of
/// either.
Result<std::vector<std::string_view>> types_of(const Json& schema, const std::string& at);

}  // namespace cake::json_schema
