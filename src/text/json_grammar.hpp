#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>

namespace cake {

/// A text as GBNF writes it, in quotes.
std::string gbnf_literal(std::string_view text);

/// `what`, a name or a group, so many times. Without `most`: any number of times.
std::string gbnf_times(std::string_view what, uint32_t least, std::optional<uint32_t> most);

/// The rules of a grammar of JSON in the making. It has from the start:
///   value object array string number integer boolean   of any content; numbers of at most 20 digits, and an
///                                              exponent of 2, so that all can be read
///   character                    one character of a string, which may be an escape
///   date time date-time uuid     strings, as RFC 3339 and RFC 9562 have them
///   space gap                    white space behind a colon, and around what stands in brackets: bounded, since small
///                                models otherwise write it without end
class JsonRules {
  public:
    /// The name of a rule of that content: of the one that is there already, where there is one.
    std::string add(std::string_view kind, const std::string& content);

    void define(std::string_view name, std::string_view content);

    /// A rule of what may stand behind the opening quote of a string that is none of `strings` (JSON, with quotes): a
    /// tree of their characters, which is left where the string becomes another one. Up to there only the usual
    /// escapes.
    std::string other_than(std::span<const std::string> strings);

    std::string text() const;

  private:
    std::unordered_map<std::string, std::string> names_;  // by content
    std::string text_;
};

/// The integers from `least` to `most`, digit by digit; at least one of the two is there.
std::string integers_between(std::optional<int64_t> least, std::optional<int64_t> most);

}  // namespace cake
