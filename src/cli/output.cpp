#include "cli/output.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <format>

namespace cake::cli {

Result<void> write_output(std::string_view text) {
    while (!text.empty()) {
        const ssize_t n = ::write(STDOUT_FILENO, text.data(), text.size());
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return fail(std::format("standard output cannot be written: {}", std::strerror(errno)));
        text.remove_prefix(static_cast<size_t>(n));
    }
    return {};
}

void complain(std::string_view message) {
    std::fputs(std::format("cake: {}\n", printable(message)).c_str(), stderr);
}

std::string printable(std::string_view text) {
    std::string line(text);
    std::ranges::replace_if(line, [](unsigned char c) { return c < ' ' || c == 0x7f; }, '?');
    return line;
}

}  // namespace cake::cli
