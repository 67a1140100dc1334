#include "model/key_reader.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <utility>

namespace cake {

std::string KeyReader::key_name(const std::string& key) {
    known_.insert(prefix_ + key);
    return prefix_ + key;
}

void KeyReader::note(const std::string& message, Error::Code code) {
    if (!error_) error_ = Error{fmt::format("{}: {}", file_.path(), message), code};
}

void KeyReader::wrong(const std::string& key, std::string_view what, Error::Code code) {
    note(fmt::format("the metadata value {}{} {}", prefix_, key, what), code);
}

template <typename T>
std::optional<T> KeyReader::value_of(Result<std::optional<T>> value) {
    if (value) return *value;
    if (!error_) error_ = value.error();
    return {};
}

int32_t KeyReader::count(const std::string& key, uint32_t least, uint32_t most, std::optional<int32_t> fallback) {
    const auto value = value_of(file_.u32(key_name(key)));
    if (!value) {
        if (!fallback) wrong(key, "is missing");
        return fallback.value_or(static_cast<int32_t>(least));
    }
    if (*value < least || *value > most) wrong(key, fmt::format("is {}; it must be {} to {}", *value, least, most));
    return static_cast<int32_t>(std::clamp(*value, least, most));
}

std::vector<int32_t> KeyReader::counts(const std::string& key, int32_t n, uint32_t least, uint32_t most,
                                       std::optional<int32_t> fallback) {
    const auto wanted = static_cast<size_t>(n);
    if (!has(key) || !file_.is_array(prefix_ + key))
        return std::vector<int32_t>(wanted, count(key, least, most, fallback));
    auto values = integers(key);
    if (values.size() != wanted) {
        wrong(key, fmt::format("has {} numbers for {} layers", values.size(), n));
        return std::vector<int32_t>(wanted, static_cast<int32_t>(least));
    }
    for (int32_t& value : values) {
        if (std::cmp_greater_equal(value, least) && std::cmp_less_equal(value, most)) continue;
        wrong(key, fmt::format("is {}; it must be {} to {}", value, least, most));
        value = static_cast<int32_t>(least);
    }
    return values;
}

int32_t KeyReader::count_of_layers(const std::string& key, int32_t n, uint32_t least, uint32_t most,
                                   std::optional<int32_t> fallback) {
    const auto values = counts(key, n, least, most, fallback);
    if (std::ranges::adjacent_find(values, std::not_equal_to()) != values.end())
        wrong(key, "differs between layers", Error::Code::unsupported);
    return values.front();
}

float KeyReader::positive(const std::string& key, std::optional<float> fallback) {
    const auto value = value_of(file_.f32(key_name(key)));
    if (!value) {
        if (!fallback) wrong(key, "is missing");
        return fallback.value_or(1.0F);
    }
    if (!std::isfinite(*value) || *value <= 0) wrong(key, fmt::format("is {}; it must be positive", *value));
    return *value;
}

float KeyReader::not_negative(const std::string& key, float fallback) {
    const float value = value_of(file_.f32(key_name(key))).value_or(fallback);
    if (!std::isfinite(value) || value < 0) wrong(key, fmt::format("is {}; it must be at least 0", value));
    return value;
}

std::string KeyReader::text(const std::string& key, const std::string& fallback) {
    return value_of(file_.string(key_name(key))).value_or(fallback);
}

bool KeyReader::flag(const std::string& key, bool fallback) {
    return value_of(file_.boolean(key_name(key))).value_or(fallback);
}

std::vector<bool> KeyReader::pattern(const std::string& key, int32_t n_least, int32_t n, int32_t period, bool first) {
    std::vector<bool> flags(static_cast<size_t>(n));
    if (has(key) && file_.is_array(prefix_ + key)) {
        const auto stated = value_of(file_.booleans(key_name(key)));
        if (!stated) return flags;
        if (std::ssize(*stated) != n && std::ssize(*stated) != n_least) {
            wrong(key, fmt::format("has {} flags for {} layers", stated->size(), n));
            return flags;
        }
        std::ranges::copy(*stated, flags.begin());
        return flags;
    }
    period = count(key, 1, 4096, period);
    for (int32_t i = 0; i < n; i++) flags[static_cast<size_t>(i)] = i % period != (first ? 0 : period - 1);
    return flags;
}

std::vector<int32_t> KeyReader::integers(const std::string& key) {
    return value_of(file_.integers(key_name(key))).value_or(std::vector<int32_t>());
}

std::vector<float> KeyReader::numbers(const std::string& key, int32_t n) {
    auto values = value_of(file_.numbers(key));
    const auto wanted = static_cast<size_t>(n);
    if (values && values->size() == 1) values->resize(wanted, values->front());
    if (!values || values->size() < wanted || !std::ranges::all_of(*values, [](float x) { return std::isfinite(x); })) {
        note(fmt::format("the metadata value {} must be a finite number for each of {} layers", key, n));
        return std::vector<float>(wanted);
    }
    return {values->begin(), values->begin() + n};
}

void KeyReader::require(const std::string& key, double only) {
    if (!has(key)) return ignore(key);
    const auto value = value_of(file_.number(key_name(key)));
    if (value && *value != only)
        wrong(key, fmt::format("is {}: only {} is supported", *value, only), Error::Code::unsupported);
}

void KeyReader::refuse_unknown() {
    for (int64_t i = 0; i < gguf_get_n_kv(file_.metadata()); i++) {
        const std::string key = gguf_get_key(file_.metadata(), i);
        if (!key.starts_with(prefix_) || known_.contains(key)) continue;
        return wrong(key.substr(prefix_.size()), "is not known and may change what the model computes",
                     Error::Code::unsupported);
    }
}

}  // namespace cake
