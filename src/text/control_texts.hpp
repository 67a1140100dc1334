#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

struct llama_vocab;

namespace cake {

/// The names that the tokenizer turns into control tokens if it recognises special tokens, such as "<|im_end|>".
class ControlTexts {
  public:
    ControlTexts() = default;
    explicit ControlTexts(const llama_vocab* vocab);

    struct Found {
        size_t n_bytes = 0;  // length of the name; 0: none
        int32_t token = -1;
    };
    /// The longest name that begins at offset `at` of the text.
    Found longest_at(std::string_view text, size_t at) const;

    /// True if `text` is the beginning of a longer name.
    bool is_begun_by(std::string_view text) const;

    size_t max_bytes() const { return lengths_.empty() ? 0 : lengths_.front(); }

  private:
    struct Hash {
        using is_transparent = void;
        size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
    };

    std::unordered_map<std::string, int32_t, Hash, std::equal_to<>> tokens_;
    std::unordered_set<std::string, Hash, std::equal_to<>> beginnings_;
    std::vector<size_t> lengths_;  // the different lengths of names in bytes, largest first
    std::array<bool, 256> first_bytes_{};
};

}  // namespace cake
