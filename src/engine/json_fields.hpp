#pragma once

#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "text/bounded_json.hpp"

namespace cake {

using Json = nlohmann::json;

/// Parses untrusted JSON. Returns a discarded value if it is invalid, or if it is nested deeper than any JSON that cake
/// writes, because deep nesting takes memory.
inline Json parse_json(std::string_view text) {
    constexpr int kMaxDepth = 6;
    return parse_bounded<Json>(text, kMaxDepth).value_or(Json(Json::value_t::discarded));
}

/// Reads the fields of an untrusted object, checks their types and bounds, and remembers the first one that is missing
/// or invalid.
class Fields {
  public:
    explicit Fields(const Json& object) : object_(object) {}

    template <typename T>
    void integer(const char* key, T& value, int64_t least, int64_t most) {
        const Json* field = find(key);
        if (field == nullptr) return;
        if (!field->is_number_integer() || (field->is_number_unsigned() && field->get<uint64_t>() > kMaxInteger))
            return wrong(key);
        const auto number = field->get<int64_t>();
        if (number < least || number > most) return wrong(key);
        value = static_cast<T>(number);
    }
    void unsigned64(const char* key, uint64_t& value) {
        const Json* field = find(key);
        if (field == nullptr) return;
        if (!field->is_number_unsigned()) return wrong(key);
        value = field->get<uint64_t>();
    }
    template <typename T>
    void number(const char* key, T& value) {
        const Json* field = find(key);
        if (field == nullptr) return;
        if (!field->is_number()) return wrong(key);
        value = static_cast<T>(field->get<double>());
    }
    void number(const char* key, std::optional<double>& value) {
        const Json* field = find(key);
        if (field == nullptr || field->is_null()) return;
        if (!field->is_number()) return wrong(key);
        value = field->get<double>();
    }
    void text(const char* key, std::string& value) {
        const Json* field = find(key);
        if (field == nullptr) return;
        if (!field->is_string()) return wrong(key);
        value = field->get<std::string>();
    }
    void flag(const char* key, bool& value) {
        const Json* field = find(key);
        if (field == nullptr) return;
        if (!field->is_boolean()) return wrong(key);
        value = field->get<bool>();
    }
    /// Returns null if the field is missing or not an array of `n` elements.
    const Json* array(const char* key, size_t n) {
        const Json* field = find(key);
        if (field == nullptr) return nullptr;
        if (field->is_array() && field->size() == n) return field;
        wrong(key);
        return nullptr;
    }
    const Json* find(const char* key) {
        const auto found = object_.is_object() ? object_.find(key) : object_.end();
        if (object_.is_object() && found != object_.end()) return &*found;
        wrong(key);
        return nullptr;
    }
    void wrong(const char* key) {
        if (first_wrong_.empty()) first_wrong_ = key;
    }
    const std::string& first_wrong() const { return first_wrong_; }

  private:
    static constexpr auto kMaxInteger = static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
    const Json& object_;
    std::string first_wrong_;
};

}  // namespace cake
