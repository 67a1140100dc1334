#include "cli/output.hpp"

#include <fcntl.h>
#include <sys/stat.h>
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

Result<std::string> read_input(const std::string& path) {
    constexpr size_t kMostBytes = (size_t{1} << 31U) - 1;
    const bool standard_input = path == "-";
    const int fd = standard_input ? STDIN_FILENO : ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return fail(std::format("{}: {}", path, std::strerror(errno)));
    struct stat status{};
    Result<std::string> text = std::string();
    if (::fstat(fd, &status) == 0 && S_ISDIR(status.st_mode))
        text = fail(path + ": is a folder; name a text file in it");
    std::string buffer(size_t{1} << 16U, '\0');
    while (text) {
        const ssize_t n = ::read(fd, buffer.data(), buffer.size());
        if (n == 0) break;
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            text = fail(std::format("{}: {}", path, std::strerror(errno)));
        } else if (text->size() + static_cast<size_t>(n) > kMostBytes) {
            text = fail(path + ": is larger than 2 GiB; cut it");
        } else {
            text->append(buffer, 0, static_cast<size_t>(n));
        }
    }
    if (!standard_input) ::close(fd);
    return text;
}

}  // namespace cake::cli
