#pragma once

#include <optional>
#include <string>

namespace cake::cli {

/// Reads lines from standard input. On a terminal, lines can be edited and there is a history of this run.
class LineEditor {
  public:
    LineEditor();

    /// Reads one line; nothing at the end of the input. Skips a byte order mark.
    std::optional<std::string> read(const std::string& prompt);
    /// Reads a message of one line, or of several if the lines before the last end with a backslash.
    std::optional<std::string> read_message(const std::string& prompt);
    bool is_terminal() const { return terminal_; }

  private:
    bool terminal_;
    bool begun_ = false;
};

}  // namespace cake::cli
