#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace cake {

/// Reads calls and values as Python and JSON write them, from a text from outside.
class PythonReader {
  public:
    explicit PythonReader(std::string_view text) : text_(text) {}

    /// Skips white space, and then `mark` if it comes next. Returns whether it did.
    bool take(char mark);
    /// A name; empty if none comes next.
    std::string name();
    /// A string, number, list, dictionary, True, False or None; nothing if none comes next.
    std::optional<nlohmann::ordered_json> value(int depth = 0);
    /// True if only white space is left.
    bool at_end();

  private:
    void skip_space();
    std::optional<nlohmann::ordered_json> string();
    std::optional<nlohmann::ordered_json> word_or_number();
    std::optional<nlohmann::ordered_json> list(int depth);
    std::optional<nlohmann::ordered_json> dictionary(int depth);

    std::string_view text_;
    size_t at_ = 0;
};

}  // namespace cake
