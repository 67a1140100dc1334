#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace cake {

/// Assembles the text of an answer from the bytes of its tokens: whole UTF-8 characters, up to the first stop string.
class AnswerText {
  public:
    explicit AnswerText(std::vector<std::string> stop) : stop_(std::move(stop)) {}

    /// Adds bytes and returns the text that is final so far. Bytes that may become a stop string or a character are
    /// held back.
    std::string add(std::string_view bytes);
    /// Ends the text and returns what was held back.
    std::string finish();
    /// The whole characters that are held back.
    std::string_view held() const;
    /// True if a stop string was found. The text ends before it.
    bool stopped() const { return stopped_; }
    /// The stop string that was found.
    const std::string& stopped_by() const { return stopped_by_; }

  private:
    std::vector<std::string> stop_;
    std::string bytes_;  // bytes that are held back
    bool stopped_ = false;
    std::string stopped_by_;
};

/// Makes UTF-8 of the bytes of consecutive tokens. A character that is split over several tokens belongs to the last.
std::vector<std::string> texts_of(std::vector<std::string> pieces);

/// The texts of tokens, of which `source`, an engine or a vocabulary, knows the bytes.
template <typename Source>
std::vector<std::string> token_texts(const Source& source, std::span<const int32_t> tokens) {
    std::vector<std::string> pieces;
    for (const int32_t token : tokens) pieces.push_back(source.piece(token));
    return texts_of(std::move(pieces));
}

/// Replaces bytes that are not valid UTF-8 with U+FFFD.
std::string to_utf8(std::string_view bytes);

}  // namespace cake
