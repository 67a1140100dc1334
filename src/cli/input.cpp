#include "cli/input.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "cli/interrupt.hpp"

namespace cake::cli {

Result<Input> Input::open(const std::string& path) {
    // Do not wait here until the other end of a pipe is opened: read_some() waits, and can be interrupted.
    const int fd = path == "-" ? STDIN_FILENO : ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return fail(Error::Code::not_found, fmt::format("{}: {}", path, std::strerror(errno)));
    Input input(path, fd);
    struct stat status{};
    if (::fstat(fd, &status) == 0) {
        if (S_ISDIR(status.st_mode)) return fail(path + ": is a folder; pass a text file in it");
        if (S_ISREG(status.st_mode)) input.n_bytes_ = static_cast<uint64_t>(status.st_size);
    }
    return input;
}

Input Input::of(std::string text) {
    Input input("the text", -1);
    input.n_bytes_ = text.size();
    input.text_ = std::move(text);
    return input;
}

Input::Input(Input&& other) noexcept
    : path_(std::move(other.path_)),
      fd_(std::exchange(other.fd_, -1)),
      text_(std::move(other.text_)),
      begun_(other.begun_),
      n_read_(other.n_read_),
      n_bytes_(other.n_bytes_) {}

Input::~Input() {
    if (fd_ > STDIN_FILENO) ::close(fd_);
}

Result<std::string> Input::read_some() {
    if (fd_ < 0) {
        n_read_ += text_.size();
        return std::exchange(text_, {});
    }
    auto bytes = read_bytes();
    if (!bytes || std::exchange(begun_, true)) return bytes;
    // The byte order mark may arrive in pieces.
    while (bytes->size() < kByteOrderMark.size() && kByteOrderMark.starts_with(*bytes)) {
        const auto more = read_bytes();
        if (!more) return more;
        if (more->empty()) return bytes;
        *bytes += *more;
    }
    if (!bytes->starts_with(kByteOrderMark)) return bytes;
    bytes->erase(0, kByteOrderMark.size());
    return bytes->empty() ? read_bytes() : bytes;
}

Result<std::string> Input::read_bytes() {
    std::string buffer(size_t{1} << 16U, '\0');
    for (;;) {
        // A signal ends poll(), but not read().
        pollfd waiting{.fd = fd_, .events = POLLIN, .revents = 0};
        if (!interrupted()) ::poll(&waiting, 1, -1);
        const ssize_t n = interrupted() ? 0 : ::read(fd_, buffer.data(), buffer.size());
        if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (n < 0) return fail(Error::Code::not_found, fmt::format("{}: {}", path_, std::strerror(errno)));
        buffer.resize(static_cast<size_t>(n));
        n_read_ += static_cast<uint64_t>(n);
        return buffer;
    }
}

Result<std::string> Input::read_all() {
    constexpr size_t kMaxBytes = (size_t{1} << 31U) - 1;
    std::string text;
    for (;;) {
        auto some = read_some();
        if (!some) return some;
        if (some->empty())
            return interrupted() ? fail(Error::Code::cancelled, "cancelled") : Result<std::string>(std::move(text));
        text += *some;
        if (text.size() > kMaxBytes) return fail(path_ + ": is larger than 2 GiB; split it, or read it with --segment");
    }
}

std::optional<double> Input::share_read() const {
    if (!n_bytes_ || *n_bytes_ == 0) return std::nullopt;
    return static_cast<double>(n_read_) / static_cast<double>(*n_bytes_);
}

Result<std::string> read_file(const std::string& path) {
    auto input = Input::open(path);
    if (!input) return std::unexpected(input.error());
    return input->read_all();
}

}  // namespace cake::cli
