#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace cake {

inline constexpr uint32_t kLastCharacter = 0x10FFFF;

/// Reads the elements of a grammar in GBNF: names, characters with their escapes, and numbers of repetitions. A
/// function that returns false has set the error.
class GbnfScanner {
  public:
    explicit GbnfScanner(std::string_view grammar) : text(grammar) {}

    static bool is_of_a_name(char c);

    /// Sets the error, a sentence behind the number of the line. Returns false.
    bool wrong(std::string_view sentence);

    /// The character `ahead` places on, or zero behind the end.
    char peek(size_t ahead = 0) const { return at + ahead < text.size() ? text[at + ahead] : '\0'; }
    /// Skips blanks and comments, and with `lines` also ends of lines.
    void skip_space(bool lines);
    std::string_view name();
    /// A character or an escape. `in`: what it is in, for the error if the text ends.
    bool character(uint32_t& value, std::string_view in);
    /// The numbers of a repetition: {2}, {2,} or {2,5}. Without `most`, there is no upper limit.
    bool times(uint32_t& least, std::optional<uint32_t>& most);

  protected:
    std::string_view text;
    size_t at = 0;
    std::string error;  // the error, if any

  private:
    bool hexadecimal(uint32_t& value, size_t n_digits);
    /// Returns false, without an error, if there is no number.
    bool number(uint32_t& value);
};

}  // namespace cake
