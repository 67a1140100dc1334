#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "model/gguf_file.hpp"

namespace cake {

/// Reads metadata under the architecture's prefix. It remembers the first error, so that callers need not check every
/// read, and the keys that were read, so that unknown keys can be refused.
class KeyReader {
  public:
    KeyReader(const GgufFile& file, std::string_view architecture)
        : file_(file), prefix_(std::string(architecture) + ".") {}

    bool has(const std::string& key) const { return file_.has(prefix_ + key); }
    bool has_tensor(const std::string& name) const { return file_.tensor(name) != nullptr; }

    /// An integer from `least` to `most`. Required if there is no fallback.
    int32_t count(const std::string& key, uint32_t least, uint32_t most, std::optional<int32_t> fallback = {});
    /// One for each of `n` layers, from one integer for all or an array.
    std::vector<int32_t> counts(const std::string& key, int32_t n, uint32_t least, uint32_t most,
                                std::optional<int32_t> fallback = {});
    /// The same if all layers have to have equal ones.
    int32_t count_of_layers(const std::string& key, int32_t n, uint32_t least, uint32_t most,
                            std::optional<int32_t> fallback = {});
    /// A positive, finite number. Required if there is no fallback.
    float positive(const std::string& key, std::optional<float> fallback = {});
    /// A finite number that is at least 0.
    float not_negative(const std::string& key, float fallback);
    std::string text(const std::string& key, const std::string& fallback);
    bool flag(const std::string& key, bool fallback);
    /// A flag for each of `n` layers, of which the file may state only the first `n_least`. By default, it is false for
    /// the last layer of each `period` layers, or for the first with `first`, and true for the others. The value of the
    /// key may be another period, or an array of all flags.
    std::vector<bool> pattern(const std::string& key, int32_t n_least, int32_t n, int32_t period, bool first = false);
    /// An array of integers; empty if the key is missing.
    std::vector<int32_t> integers(const std::string& key);
    /// A finite number for each of `n` layers, from one number for all or an array. The key has no prefix.
    std::vector<float> numbers(const std::string& key, int32_t n);

    /// Refuses any value except `only`, because it would change the arithmetic.
    void require(const std::string& key, double only);
    /// Marks a key as known; it does not change the arithmetic.
    void ignore(const std::string& key) { known_.insert(prefix_ + key); }
    /// Refuses the first key under the prefix that was neither read nor ignored.
    void refuse_unknown();

    /// Record an error: wrong() about one key, note() about several.
    void wrong(const std::string& key, std::string_view what, Error::Code code = Error::Code::corrupt);
    void note(const std::string& message, Error::Code code = Error::Code::corrupt);
    /// The first error, with the path of the file.
    const std::optional<Error>& error() const { return error_; }

  private:
    std::string key_name(const std::string& key);
    template <typename T>
    std::optional<T> value_of(Result<std::optional<T>> value);

    const GgufFile& file_;
    std::string prefix_;
    std::set<std::string> known_;
    std::optional<Error> error_;
};

}  // namespace cake
