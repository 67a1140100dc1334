#include "cli/line_editor.hpp"

#include <editline/readline.h>
#include <unistd.h>

#include <cstdlib>
#include <iostream>
#include <memory>
#include <utility>

#include "cli/input.hpp"

namespace cake::cli {

LineEditor::LineEditor() : terminal_(::isatty(STDIN_FILENO) == 1 && ::isatty(STDOUT_FILENO) == 1) {
    if (terminal_) ::using_history();
}

std::optional<std::string> LineEditor::read(const std::string& prompt) {
    if (!terminal_) {
        std::string line;
        if (!std::getline(std::cin, line)) return std::nullopt;
        if (!std::exchange(begun_, true) && line.starts_with(kByteOrderMark)) line.erase(0, kByteOrderMark.size());
        return line;
    }
    const std::unique_ptr<char, decltype(&std::free)> line(::readline(prompt.c_str()), &std::free);
    if (!line) return std::nullopt;
    if (*line != '\0') ::add_history(line.get());
    return std::string(line.get());
}

std::optional<std::string> LineEditor::read_message(const std::string& prompt) {
    auto message = read(prompt);
    while (message && message->ends_with('\\')) {
        message->back() = '\n';
        const auto more = read(". ");
        if (!more) break;
        *message += *more;
    }
    return message;
}

}  // namespace cake::cli
