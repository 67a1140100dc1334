#include "cli/output.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>

namespace cake::cli {

bool open_standard_files() {
    constexpr int kModes[] = {O_WRONLY, O_RDONLY, O_WRONLY};  // so that reading input or writing output fails
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (::fcntl(fd, F_GETFD) >= 0) continue;
        if (::open("/dev/null", kModes[fd]) != fd) return false;  // open() returns the lowest free number
    }
    return true;
}

Result<void> write_output(std::string_view text) {
    while (!text.empty()) {
        const ssize_t n = ::write(STDOUT_FILENO, text.data(), text.size());
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EBADF) return fail("standard output is closed: nothing can be written to it");
        if (n < 0) return fail(fmt::format("cannot write to standard output: {}", std::strerror(errno)));
        text.remove_prefix(static_cast<size_t>(n));
    }
    return {};
}

Result<void> check_place_of(const std::string& path) {
    if (path.empty() || path == "-") return {};
    if (std::filesystem::is_directory(path)) return fail(path + ": is a folder; use the path of a plain file");
    const auto folder = std::filesystem::path(path).parent_path();
    if (::access(folder.empty() ? "." : folder.c_str(), W_OK | X_OK) == 0) return {};
    return fail(path + ": cannot be written: use an existing folder that you may write to");
}

Result<void> write_whole_file(const std::string& path, std::string_view text) {
    const auto unfinished = fmt::format("{}.part-{}", path, ::getpid());
    bool written = false;
    {
        std::ofstream file(unfinished, std::ios::binary);
        file.write(text.data(), static_cast<std::streamsize>(text.size()));
        file.close();
        written = file.good();
    }
    if (written && ::rename(unfinished.c_str(), path.c_str()) == 0) return {};
    const auto error = fail(fmt::format("{}: {}", path, std::strerror(errno)));
    ::unlink(unfinished.c_str());
    return error;
}

void complain(std::string_view message) {
    std::fputs(fmt::format("cake: {}\n", printable(message)).c_str(), stderr);
}

std::string printable(std::string_view text) {
    std::string line(text);
    std::ranges::replace_if(line, [](unsigned char c) { return c < ' ' || c == 0x7f; }, '?');
    return line;
}

}  // namespace cake::cli
