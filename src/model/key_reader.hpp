#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "model/gguf_file.hpp"

namespace cake {

/// Reads metadata below the architecture's prefix and remembers the first error, so that a list of reads stays a list,
/// and what was asked for, so that a key that nobody knows is noticed.
class KeyReader {
  public:
    KeyReader(const GgufFile& file, std::string_view architecture)
        : file_(file), prefix_(std::string(architecture) + ".") {}

    bool has(const std::string& key) const { return file_.has(prefix_ + key); }

    /// A whole number from `least` to `most`; required where there is no fallback.
    int32_t count(const std::string& key, uint32_t least, uint32_t most, std::optional<int32_t> fallback = {});
    /// A positive, finite number; required where there is no fallback.
    float positive(const std::string& key, std::optional<float> fallback = {});
    std::string text(const std::string& key, const std::string& fallback);
    bool flag(const std::string& key, bool fallback);
    /// For each of `n` layers, whether it is not the last of `period` that follow each other: as the key says, which
    /// may hold another period or all of the flags.
    std::vector<bool> pattern(const std::string& key, int32_t n, int32_t period);

    /// Refuses a value that would change the arithmetic: anything but `only`.
    void require(const std::string& key, double only);
    /// Says that a key does not change the arithmetic.
    void ignore(const std::string& key) { known_.insert(prefix_ + key); }
    /// Refuses the first key below the prefix that was neither read nor ignored.
    void refuse_unknown();

    /// Notes an error: of one key, or of several.
    void wrong(const std::string& key, std::string_view what);
    void note(const std::string& message);
    /// The first error, with the file's path; empty where there was none.
    const std::string& error() const { return error_; }

  private:
    std::string key_name(const std::string& key);
    template <typename T>
    std::optional<T> value_of(Result<std::optional<T>> value);

    const GgufFile& file_;
    std::string prefix_;
    std::set<std::string> known_;
    std::string error_;
};

}  // namespace cake
