#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "cake/error.hpp"
#include "text/control_texts.hpp"

namespace cake {

/// A rendered conversation. The name of a control token that is written out in a message ("typed") is not a control
/// token.
struct ChatText {
    std::string text;
    std::vector<size_t> typed{};  // an offset inside or at the end of the name of a control token marks it as typed
    bool is_open = false;         // the text is the beginning of a longer one

    /// The part from offset `begin` on.
    ChatText from(size_t begin) const;
};

/// Marks the names of control tokens in the strings of a conversation before it is rendered, so that they can be told
/// from those of the template afterwards. A mark is a character that does not occur in the strings; it is inserted
/// after the first character of the name. Bytes that are not UTF-8, which the template engine does not accept, are
/// replaced with private characters until the text has been rendered.
class TypedMarks {
  public:
    /// Fails if the strings contain all of the characters that can serve as a mark.
    static Result<TypedMarks> choose(const ControlTexts& controls, const nlohmann::ordered_json& conversation);

    /// Marks all strings and keys in `value`, except roles that are words, because templates compare them.
    nlohmann::ordered_json mark(const nlohmann::ordered_json& value) const;
    std::string mark(std::string_view text) const;

    /// Removes the marks from a rendered text and restores the bytes that are not UTF-8.
    ChatText unmark(std::string_view marked) const;

  private:
    TypedMarks(const ControlTexts& controls, std::string character, bool keeps_bytes)
        : controls_(&controls), mark_(std::move(character)), keeps_bytes_(keeps_bytes) {}

    const ControlTexts* controls_;
    std::string mark_;  // UTF-8
    bool keeps_bytes_;  // true if the strings contain none of the characters that replace bytes
};

}  // namespace cake
