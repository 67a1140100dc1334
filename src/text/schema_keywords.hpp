#pragma once

#include <expected>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "cake/error.hpp"

namespace cake::json_schema {

/// Properties keep their order.
using Json = nlohmann::ordered_json;

/// A JSON pointer to what stands below another.
std::string below(const std::string& at, std::string_view key);

/// `at` is a JSON pointer to what is wrong.
std::unexpected<Error> fail_at(const std::string& at, std::string_view sentence);

/// That a schema has no keywords but those that are translated or say nothing about values, and that they may stand
/// beside one another.
Result<void> check_keywords(const Json& schema, const std::string& at);

/// The types that a schema names, or else those that its keywords speak of; none where it has no such keywords.
Result<std::vector<std::string_view>> types_of(const Json& schema, const std::string& at);

}  // namespace cake::json_schema
