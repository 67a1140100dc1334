#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "cake/error.hpp"
#include "text/control_texts.hpp"

namespace cake {

/// A rendered conversation. What somebody wrote in a message is no control token, even if it reads like one.
struct ChatText {
    std::string text;
    std::vector<size_t> typed{};  // a control token is none if one of these offsets is in it, or at its end

    /// From an offset on.
    ChatText from(size_t begin) const;
};

/// Marks the control tokens in strings of a conversation before a template puts them into its text, so that they can
/// be told from its own afterwards. A mark is a character that the strings do not hold, behind the token's first one.
/// Bytes that are not UTF-8, which a template cannot be given, become private characters until then.
class TypedMarks {
  public:
    /// An error if the strings hold each of the characters that could be a mark.
    static Result<TypedMarks> choose(const ControlTexts& controls, const nlohmann::ordered_json& conversation);

    /// All strings and keys in it, but for roles, which templates compare, if they are words.
    nlohmann::ordered_json mark(const nlohmann::ordered_json& value) const;
    std::string mark(std::string_view text) const;

    /// A text with marks, without them.
    ChatText unmark(std::string_view marked) const;

  private:
    TypedMarks(const ControlTexts& controls, std::string character, bool keeps_bytes)
        : controls_(&controls), mark_(std::move(character)), keeps_bytes_(keeps_bytes) {}

    const ControlTexts* controls_;
    std::string mark_;  // UTF-8
    bool keeps_bytes_;  // bytes that are not UTF-8 have characters that the strings do not hold
};

}  // namespace cake
