#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "cake/error.hpp"

namespace cake {

/// A session file consists of `CAKESESS`, the version, a text header, raw bytes that the header describes, and a
/// checksum (XXH3) of all of it. Numbers are little-endian.
inline constexpr uint32_t kSessionVersion = 1;

/// True if the file begins with CAKESESS.
bool begins_like_session(const std::string& path);

/// Writes a session file under a temporary name and renames it on commit(), so that an earlier file of that name is not
/// lost if writing fails.
class SessionWriter {
  public:
    static Result<SessionWriter> create(const std::string& path, const std::string& header);
    SessionWriter(SessionWriter&&) noexcept;
    SessionWriter& operator=(SessionWriter&&) noexcept;
    ~SessionWriter();

    Result<void> write(std::span<const std::byte> bytes);
    Result<void> commit();

  private:
    struct State;
    explicit SessionWriter(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

/// Reads a session file. Magic, version and checksum are checked before anything else is used.
class SessionReader {
  public:
    static Result<SessionReader> open(const std::string& path);
    SessionReader(SessionReader&&) noexcept;
    SessionReader& operator=(SessionReader&&) noexcept;
    ~SessionReader();

    const std::string& header() const;
    uint64_t bytes_left() const;
    /// Reads the next bytes. Fails if there are not enough left.
    Result<void> read(std::span<std::byte> bytes);
    /// An error that names the file and says what is wrong with it.
    std::unexpected<Error> damaged(std::string_view what) const;

  private:
    struct State;
    explicit SessionReader(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

}  // namespace cake
