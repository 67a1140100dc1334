#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>

namespace cake {

/// A text as a GBNF literal, in quotes.
std::string gbnf_literal(std::string_view text);

/// Repetition of `what`, a name or a group, `least` to `most` times. Without `most`, there is no upper limit.
std::string gbnf_times(std::string_view what, uint32_t least, std::optional<uint32_t> most);

/// Builds the rules of a JSON grammar. These rules are predefined:
///   value object array string number integer boolean   any value of the type; a number has at most 20 digits before
///                                and after the point, and 2 in the exponent, so that every parser can read it
///   character                    one character of a string, which may be an escape
///   date time date-time uuid     strings as defined in RFC 3339 and RFC 9562
///   space gap                    white space after a colon, and inside brackets; bounded, because small models
///                                otherwise write it without end
class JsonRules {
  public:
    /// Returns the name of a rule with this content, adding the rule if there is none yet. The name begins with `kind`.
    std::string add(std::string_view kind, const std::string& content);

    void define(std::string_view name, std::string_view content);

    /// Rule for the text after the opening quote of a string that is none of `strings` (in JSON, with quotes). The rule
    /// follows a tree of their characters up to the first difference. Until then, only the usual escapes are allowed.
    std::string other_than(std::span<const std::string> strings);

    std::string text() const;

  private:
    std::unordered_map<std::string, std::string> names_;  // names of rules, by content
    std::string text_;
};

/// Expression for the integers from `least` to `most`, digit by digit. At least one of the bounds must be set.
std::string integers_between(std::optional<int64_t> least, std::optional<int64_t> most);

}  // namespace cake
