#pragma once

#include <cstddef>
#include <format>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "text/utf8.hpp"

namespace cake {

/// Checks that a JSON schema is valid JSON of acceptable depth and width, before it is parsed.
class SchemaScan : public nlohmann::json_sax<nlohmann::ordered_json> {
  public:
    bool null() override { return true; }
    bool boolean(bool /*value*/) override { return true; }
    bool number_integer(number_integer_t /*value*/) override { return true; }
    bool number_unsigned(number_unsigned_t /*value*/) override { return true; }
    bool number_float(number_float_t /*value*/, const string_t& /*text*/) override { return true; }
    bool string(string_t& /*value*/) override { return true; }
    bool binary(binary_t& /*value*/) override { return true; }
    bool start_object(size_t /*size*/) override { return start(); }
    bool start_array(size_t /*size*/) override { return start(); }
    bool end_object() override { return end(); }
    bool end_array() override { return end(); }
    bool key(string_t& name) override {
        last_key_ = beginning_of(name);
        if (++n_keys_.back() <= kMaxKeys) return true;
        error_ = std::format("the JSON schema has an object of more than {} keys", kMaxKeys);
        return false;
    }
    bool parse_error(size_t position, const std::string& token, const nlohmann::detail::exception& error) override {
        constexpr int kOutOfRange = 406;
        if (error.id == kOutOfRange) {
            error_ =
                std::format("the JSON schema's \"{}\": the number {} is out of range", last_key_, beginning_of(token));
        } else {
            error_ = std::format("the JSON schema is not valid JSON in UTF-8 from byte {} on", position);
            if (!last_key_.empty()) error_ += std::format(", after the key \"{}\"", last_key_);
        }
        return false;
    }

    /// What is wrong with the schema; empty if nothing is.
    const std::string& error() const { return error_; }

  private:
    static constexpr size_t kDeepest = 32;
    static constexpr size_t kMaxKeys = 1000;

    bool start() {
        n_keys_.push_back(0);
        if (n_keys_.size() <= kDeepest) return true;
        error_ = std::format("the JSON schema is nested more than {} levels deep", kDeepest);
        return false;
    }
    bool end() {
        n_keys_.pop_back();
        return true;
    }

    std::vector<size_t> n_keys_;  // number of keys in each open object or array
    std::string last_key_;
    std::string error_;
};

}  // namespace cake
