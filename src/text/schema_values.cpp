#include "text/schema_values.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <format>
#include <set>
#include <string_view>

namespace cake::json_schema {

namespace {

constexpr double kLargestBound = 1e15;

/// The value of an integer, which may also be written as 3.0.
std::optional<int64_t> integer_of(const Json& number) {
    if (!number.is_number()) return std::nullopt;
    const auto value = number.get<double>();
    if (!(std::abs(value) <= kLargestBound) || value != std::floor(value)) return std::nullopt;
    return static_cast<int64_t>(value);
}

bool is_of_type(const Json& value, std::string_view type) {
    if (type == "string") return value.is_string();
    if (type == "boolean") return value.is_boolean();
    if (type == "null") return value.is_null();
    if (type == "object") return value.is_object();
    if (type == "array") return value.is_array();
    if (type == "number") return value.is_number();
    return value.is_number_integer() || (value.is_number() && std::floor(value.get<double>()) == value.get<double>());
}

/// Expression for exactly this value.
std::string grammar_of_value(const Json& value) {
    if (!value.is_structured() || value.empty()) {
        if (value.is_object()) return R"("{" gap "}")";
        if (value.is_array()) return R"("[" gap "]")";
        return gbnf_literal(value.dump());
    }
    std::string content;
    for (const auto& [key, item] : value.items()) {
        content += content.empty() ? "gap " : R"( "," gap )";
        if (value.is_object()) content += gbnf_literal(Json(key).dump() + ":") + " space ";
        content += grammar_of_value(item);
    }
    return value.is_object() ? std::format(R"("{{" {} gap "}}")", content) : std::format(R"("[" {} gap "]")", content);
}

/// The number of characters or items in a keyword, if there is one.
Result<std::optional<uint32_t>> count(const Json& schema, const char* key, const std::string& at) {
    const auto found = schema.find(key);
    if (found == schema.end()) return std::nullopt;
    const auto number = integer_of(*found);
    if (!number || *number < 0 || *number > kMaxTimes)
        return fail_at(below(at, key), std::format("\"{}\" must be a whole number from 0 to {}", key, kMaxTimes));
    return static_cast<uint32_t>(*number);
}

/// The smallest or largest integer that a bound allows, if there is one.
Result<std::optional<int64_t>> bound(const Json& schema, const char* key, bool is_least, bool is_exclusive,
                                     const std::string& at) {
    const auto found = schema.find(key);
    if (found == schema.end()) return std::nullopt;
    const double value = found->is_number() ? found->get<double>() : 2 * kLargestBound;
    if (!(std::abs(value) <= kLargestBound))
        return fail_at(below(at, key), std::format("\"{}\" must be a number from -1e15 to 1e15", key));
    const auto floor = static_cast<int64_t>(std::floor(value));
    const auto ceiling = static_cast<int64_t>(std::ceil(value));
    if (is_least) return is_exclusive ? floor + 1 : ceiling;
    return is_exclusive ? ceiling - 1 : floor;
}

}  // namespace

Result<Counts> counts(const Json& schema, const char* least_key, const char* most_key, const std::string& at) {
    const auto least = count(schema, least_key, at);
    if (!least) return std::unexpected(least.error());
    const auto most = count(schema, most_key, at);
    if (!most) return std::unexpected(most.error());
    if (least->value_or(0) > most->value_or(kMaxTimes))
        return fail_at(below(at, least_key), std::format("\"{}\" is more than \"{}\"", least_key, most_key));
    return Counts{.least = least->value_or(0), .most = *most};
}

std::string alternatives_of(const std::vector<std::string>& alternatives) {
    std::string text;
    for (const auto& alternative : alternatives) text += (text.empty() ? "" : " | ") + alternative;
    return text;
}

Result<std::string> rule_of_string(const Json& schema, const std::string& at, JsonRules& rules) {
    const auto length = counts(schema, "minLength", "maxLength", at);
    if (!length) return std::unexpected(length.error());
    if (const auto format = schema.find("format"); format != schema.end()) {
        for (const char* name : {"date", "time", "date-time", "uuid"}) {
            if (*format != name) continue;
            if (schema.contains("minLength") || schema.contains("maxLength")) {
                return fail_at(below(at, "format"),
                               "a format together with minLength or maxLength is not supported: leave them out");
            }
            return name;
        }
        return fail_at(below(at, "format"),
                       "only the formats date, time, date-time and uuid are supported: leave it out");
    }
    if (length->least == 0 && !length->most) return "string";
    return rules.add("string", std::format(R"("\"" {} "\"")", gbnf_times("character", length->least, length->most)));
}

Result<std::string> rule_of_integer(const Json& schema, const std::string& at, JsonRules& rules) {
    std::optional<int64_t> least;
    std::optional<int64_t> most;
    for (const bool is_exclusive : {false, true}) {
        const auto low = bound(schema, is_exclusive ? "exclusiveMinimum" : "minimum", true, is_exclusive, at);
        if (!low) return std::unexpected(low.error());
        const auto high = bound(schema, is_exclusive ? "exclusiveMaximum" : "maximum", false, is_exclusive, at);
        if (!high) return std::unexpected(high.error());
        if (*low) least = std::max(least.value_or(**low), **low);
        if (*high) most = std::min(most.value_or(**high), **high);
    }
    if (least && most && *least > *most) {
        return fail_at(at, std::format("no integer is at least {} (minimum, exclusiveMinimum) and at most {} "
                                       "(maximum, exclusiveMaximum)",
                                       *least, *most));
    }
    return least || most ? rules.add("integer", integers_between(least, most)) : "integer";
}

Result<std::string> rule_of_values(const Json& values, const Json& schema, const std::string& at, JsonRules& rules) {
    if (!values.is_array() || values.empty()) return fail_at(at, "\"enum\" must be a list of at least one value");
    const auto types = types_of(schema, at.substr(0, at.rfind('/')));
    if (!types) return std::unexpected(types.error());

    std::set<std::string> seen;
    std::vector<std::string> strings;  // without the opening quote, at which most candidates fail at once
    std::vector<std::string> alternatives;
    for (const auto& value : values) {
        const auto fits = [&](std::string_view type) { return is_of_type(value, type); };
        if (!types->empty() && std::ranges::none_of(*types, fits)) continue;
        const auto json = value.dump();
        if (!seen.insert(json).second) continue;
        if (value.is_string()) {
            strings.push_back(gbnf_literal(std::string_view(json).substr(1)));
        } else {
            alternatives.push_back(grammar_of_value(value));
        }
    }
    if (seen.empty()) return fail_at(at, "no value is of the schema's type");
    if (!strings.empty())
        alternatives.insert(alternatives.begin(), std::format(R"("\"" ( {} ))", alternatives_of(strings)));
    return rules.add("values", alternatives_of(alternatives));
}

}  // namespace cake::json_schema
