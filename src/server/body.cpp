#include "server/body.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "text/utf8.hpp"

namespace cake::server {

namespace {

constexpr size_t kDeepest = 64;
// A limit, because ordered_json searches the fields of an object linearly.
constexpr size_t kMaxFields = 2000;

// Limits of what is built from a body, because an empty array takes many times its two bytes.
constexpr size_t kMaxValues = size_t{2} << 20U;
constexpr size_t kMaxArraysAndObjects = size_t{1} << 19U;

/// Checks a text against these limits before it is parsed. Returns an error message, or an empty string.
std::string beyond_limits(std::string_view text) {
    std::vector<size_t> n_fields{0};  // number of fields of each open array or object
    size_t n_values = 0;
    size_t n_opened = 0;
    bool quoted = false;
    for (size_t i = 0; i < text.size(); i++) {
        const char c = text[i];
        if (quoted) {
            if (c == '\\') i++;
            if (c == '"') quoted = false;
        } else if (c == '"') {
            quoted = true;
        } else if (c == '{' || c == '[') {
            if (n_fields.size() > kDeepest) return fmt::format("the body is nested more than {} levels deep", kDeepest);
            n_fields.push_back(0);
            if (++n_opened > kMaxArraysAndObjects)
                return fmt::format("the body has more than {} arrays and objects", kMaxArraysAndObjects);
        } else if (c == ',') {
            if (++n_values > kMaxValues) return fmt::format("the body has more than {} values", kMaxValues);
        } else if ((c == '}' || c == ']') && n_fields.size() > 1) {
            n_fields.pop_back();
        } else if (c == ':' && ++n_fields.back() > kMaxFields) {
            return fmt::format("an object in the body has more than {} fields", kMaxFields);
        }
    }
    return {};
}

/// An integer, also written as 6.0 or 6e0, as some clients do.
std::optional<int64_t> whole_number(const Json& value) {
    if (value.is_number_float()) {
        constexpr double kExact = 9007199254740992;  // 2^53: beyond it, not every integer is a double
        const auto number = value.get<double>();
        if (std::trunc(number) == number && std::abs(number) <= kExact) return static_cast<int64_t>(number);
        return std::nullopt;
    }
    if (!value.is_number_integer()) return std::nullopt;
    if (value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) return std::nullopt;
    return value.get<int64_t>();
}

}  // namespace

ApiResult<Body> Body::parse(std::string_view text) {
    if (text.empty()) return invalid("the request has no body: a JSON object is expected");
    if (auto beyond = beyond_limits(text); !beyond.empty()) return invalid(std::move(beyond));
    std::string field;  // top-level field that is being parsed
    try {
        auto parsed = Json::parse(text, [&](int depth, Json::parse_event_t event, Json& read) {
            if (depth == 1 && event == Json::parse_event_t::key) field = read.get<std::string>();
            return true;
        });
        if (!parsed.is_object()) return invalid("the body must be a JSON object");
        return Body(std::move(parsed));
    } catch (const Json::out_of_range&) {
        return invalid(fmt::format("{}: the number is too large", beginning_of(field)), beginning_of(field));
    } catch (const Json::exception& error) {
        // Cut the message, which begins with an error code of the library and quotes the input.
        const std::string_view what = error.what();
        const auto begin = what.find("parse error");
        constexpr size_t kMax = 80;
        return invalid("the body is not valid JSON in UTF-8: " +
                       beginning_of(begin == std::string_view::npos ? what : what.substr(begin), kMax));
    }
}

const Json* Body::find(const std::string& name) {
    asked_.insert(name);
    const auto found = object_.find(name);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
}

std::optional<bool> Body::flag(const std::string& name) {
    const Json* value = find(name);
    if (value == nullptr) return std::nullopt;
    if (value->is_boolean()) return value->get<bool>();
    wrong(name, fmt::format("{} must be true or false", name));
    return std::nullopt;
}

std::optional<int64_t> Body::integer(const std::string& name, int64_t least, int64_t most) {
    const Json* value = find(name);
    if (value == nullptr) return std::nullopt;
    if (const auto number = whole_number(*value); number && *number >= least && *number <= most) return number;
    wrong(name, fmt::format("{} must be an integer from {} to {}", name, least, most));
    return std::nullopt;
}

std::optional<double> Body::number(const std::string& name, double least, double most) {
    const Json* value = find(name);
    if (value == nullptr) return std::nullopt;
    if (value->is_number()) {
        const auto number = value->get<double>();
        if (number >= least && number <= most) return number;
    }
    wrong(name, fmt::format("{} must be a number from {} to {}", name, least, most));
    return std::nullopt;
}

std::optional<std::string> Body::text(const std::string& name, size_t max_bytes) {
    const Json* value = find(name);
    if (value == nullptr) return std::nullopt;
    if (value->is_string() && value->get_ref<const std::string&>().size() <= max_bytes)
        return value->get<std::string>();
    wrong(name, fmt::format("{} must be a string of at most {} bytes", name, max_bytes));
    return std::nullopt;
}

void Body::ignore(std::initializer_list<const char*> names) {
    for (const char* name : names) asked_.insert(name);
}

void Body::unsupported(const std::string& name, std::initializer_list<Json> harmless) {
    const Json* value = find(name);
    if (value == nullptr || std::ranges::contains(harmless, *value)) return;
    wrong(name, fmt::format("{} is not supported: leave it out", name));
}

void Body::wrong(const std::string& name, std::string message) {
    if (!error_) error_ = ApiError{.message = std::move(message), .param = name};
}

ApiResult<void> Body::finish() const {
    if (error_) return std::unexpected(*error_);
    return {};
}

std::vector<std::string> Body::unknown() const {
    std::vector<std::string> names;
    for (const auto& field : object_.items())
        if (!asked_.contains(field.key())) names.push_back(field.key());
    return names;
}

}  // namespace cake::server
