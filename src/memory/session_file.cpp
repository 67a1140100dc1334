#include "memory/session_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <vector>

namespace cake {

namespace {

static_assert(std::endian::native == std::endian::little, "session files are written as numbers lie in memory");

constexpr std::array<char, 8> kMagic = {'C', 'A', 'K', 'E', 'S', 'E', 'S', 'S'};
constexpr uint32_t kMaxHeaderBytes = uint32_t{16} << 20U;

struct Begin {
    std::array<char, 8> magic = kMagic;
    uint32_t version = kSessionVersion;
    uint32_t header_bytes = 0;
};

class File {
  public:
    explicit File(int fd) : fd_(fd) {}
    File(const File&) = delete;
    File& operator=(const File&) = delete;
    ~File() {
        if (fd_ >= 0) ::close(fd_);
    }
    int get() const { return fd_; }

  private:
    int fd_;
};

std::unexpected<Error> system_error(const std::string& path, Error::Code code = Error::Code::internal) {
    return fail(code, fmt::format("{}: {}", path, std::strerror(errno)));
}

template <typename T>
std::span<const std::byte> bytes_of(const T& value) {
    return std::as_bytes(std::span(&value, 1));
}

Result<void> read_at(const File& file, const std::string& path, uint64_t offset, std::span<std::byte> bytes) {
    while (!bytes.empty()) {
        const ssize_t n = ::pread(file.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return system_error(path);
        if (n == 0) return fail(Error::Code::corrupt, path + ": the session ends too early; it is damaged");
        bytes = bytes.subspan(static_cast<size_t>(n));
        offset += static_cast<uint64_t>(n);
    }
    return {};
}

struct XxhState {
    XXH3_state_t* state = XXH3_createState();
    XxhState() { XXH3_64bits_reset(state); }
    XxhState(const XxhState&) = delete;
    XxhState& operator=(const XxhState&) = delete;
    ~XxhState() { XXH3_freeState(state); }
    void add(std::span<const std::byte> bytes) const { XXH3_64bits_update(state, bytes.data(), bytes.size()); }
    uint64_t digest() const { return XXH3_64bits_digest(state); }
};

}  // namespace

bool begins_like_session(const std::string& path) {
    std::error_code unknown;
    if (!std::filesystem::is_regular_file(path, unknown)) return false;  // reading from a pipe would take its bytes
    std::array<char, kMagic.size()> begin{};
    std::ifstream file(path, std::ios::binary);
    return file.read(begin.data(), begin.size()) && begin == kMagic;
}

struct SessionWriter::State {
    std::string path;
    std::string temporary;  // empty after the file has been renamed to `path`
    File file;
    XxhState sum;

    State(std::string where, std::string beside, int fd)
        : path(std::move(where)), temporary(std::move(beside)), file(fd) {}
    State(const State&) = delete;
    State& operator=(const State&) = delete;
    ~State() {
        if (!temporary.empty()) ::unlink(temporary.c_str());
    }
};

SessionWriter::SessionWriter(std::unique_ptr<State> state) : state_(std::move(state)) {}
SessionWriter::SessionWriter(SessionWriter&&) noexcept = default;
SessionWriter& SessionWriter::operator=(SessionWriter&&) noexcept = default;
SessionWriter::~SessionWriter() = default;

Result<SessionWriter> SessionWriter::create(const std::string& path, const std::string& header) {
    std::error_code ignored;
    const auto status = std::filesystem::status(path, ignored);
    if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status))
        return fail(path + ": is not a plain file; choose another path for the session");
    if (header.size() > kMaxHeaderBytes) return fail(path + ": the session's note is too long to be saved");
    auto temporary = fmt::format("{}.part-{}", path, ::getpid());
    const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (fd < 0) return system_error(path, Error::Code::not_found);
    SessionWriter writer(std::make_unique<State>(path, std::move(temporary), fd));
    const Begin begin{.header_bytes = static_cast<uint32_t>(header.size())};
    if (auto written = writer.write(bytes_of(begin)); !written) return std::unexpected(written.error());
    if (auto written = writer.write(std::as_bytes(std::span(header))); !written)
        return std::unexpected(written.error());
    return writer;
}

Result<void> SessionWriter::write(std::span<const std::byte> bytes) {
    state_->sum.add(bytes);
    while (!bytes.empty()) {
        const ssize_t n = ::write(state_->file.get(), bytes.data(), bytes.size());
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return system_error(state_->path);
        bytes = bytes.subspan(static_cast<size_t>(n));
    }
    return {};
}

Result<void> SessionWriter::commit() {
    const uint64_t sum = state_->sum.digest();
    if (auto written = write(bytes_of(sum)); !written) return written;
    if (::fsync(state_->file.get()) != 0) return system_error(state_->path);
    if (::rename(state_->temporary.c_str(), state_->path.c_str()) != 0) return system_error(state_->path);
    state_->temporary.clear();
    return {};
}

struct SessionReader::State {
    std::string path;
    File file;
    std::string header;
    uint64_t offset = 0;
    uint64_t end = 0;  // offset of the checksum

    State(std::string where, int fd) : path(std::move(where)), file(fd) {}
};

SessionReader::SessionReader(std::unique_ptr<State> state) : state_(std::move(state)) {}
SessionReader::SessionReader(SessionReader&&) noexcept = default;
SessionReader& SessionReader::operator=(SessionReader&&) noexcept = default;
SessionReader::~SessionReader() = default;

Result<SessionReader> SessionReader::open(const std::string& path) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return system_error(path, Error::Code::not_found);
    auto state = std::make_unique<State>(path, fd);
    struct stat status{};
    if (::fstat(fd, &status) != 0) return system_error(path);
    if (!S_ISREG(status.st_mode)) return fail(path + ": is not a plain file; pass a saved session");

    Begin begin;
    uint64_t sum = 0;
    const auto n_bytes = static_cast<uint64_t>(status.st_size);
    const auto not_one = [&] { return fail(Error::Code::corrupt, path + ": is not a cake session"); };
    if (n_bytes < sizeof(begin) + sizeof(sum)) return not_one();
    if (auto read = read_at(state->file, path, 0, std::as_writable_bytes(std::span(&begin, 1))); !read)
        return std::unexpected(read.error());
    if (begin.magic != kMagic) return not_one();
    if (begin.version != kSessionVersion) {
        return fail(Error::Code::unsupported,
                    fmt::format("{}: the session has version {}, and this program reads version {}", path,
                                begin.version, kSessionVersion));
    }
    state->end = n_bytes - sizeof(sum);
    XxhState actual;
    std::vector<std::byte> buffer(size_t{1} << 20U);
    for (uint64_t offset = 0; offset < state->end;) {
        const auto part =
            std::span(buffer).first(static_cast<size_t>(std::min<uint64_t>(buffer.size(), state->end - offset)));
        if (auto read = read_at(state->file, path, offset, part); !read) return std::unexpected(read.error());
        actual.add(part);
        offset += part.size();
    }
    if (auto read = read_at(state->file, path, state->end, std::as_writable_bytes(std::span(&sum, 1))); !read)
        return std::unexpected(read.error());
    if (sum != actual.digest())
        return fail(Error::Code::corrupt,
                    path + ": the session is damaged (its checksum does not match its content): save it again");
    if (begin.header_bytes > kMaxHeaderBytes || begin.header_bytes > state->end - sizeof(begin))
        return fail(Error::Code::corrupt, path + ": the session is damaged (its header is longer than the file)");
    state->header.resize(begin.header_bytes);
    if (auto read = read_at(state->file, path, sizeof(begin), std::as_writable_bytes(std::span(state->header))); !read)
        return std::unexpected(read.error());
    state->offset = sizeof(begin) + begin.header_bytes;
    return SessionReader(std::move(state));
}

const std::string& SessionReader::header() const {
    return state_->header;
}

std::unexpected<Error> SessionReader::damaged(std::string_view what) const {
    return fail(Error::Code::corrupt, fmt::format("{}: the session is damaged ({})", state_->path, what));
}

uint64_t SessionReader::bytes_left() const {
    return state_->end - state_->offset;
}

Result<void> SessionReader::read(std::span<std::byte> bytes) {
    if (bytes.size() > bytes_left()) return damaged("it ends too early");
    auto read = read_at(state_->file, state_->path, state_->offset, bytes);
    state_->offset += bytes.size();
    return read;
}

}  // namespace cake
