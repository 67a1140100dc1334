#pragma once

#include <optional>
#include <string>

namespace cake::cli {

/// Reads lines: from a terminal with editing and a history of this run, otherwise as they come.
class LineEditor {
  public:
    LineEditor();

    /// Nothing at the end of the input. The first line is without a byte order mark.
    std::optional<std::string> read(const std::string& prompt);
    /// A message, which a line that ends in \ goes on with the next.
    std::optional<std::string> read_message(const std::string& prompt);
    bool is_terminal() const { return terminal_; }

  private:
    bool terminal_;
    bool begun_ = false;
};

}  // namespace cake::cli
