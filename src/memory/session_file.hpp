#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "cake/error.hpp"

namespace cake {

/// A session file: `CAKESESS`, the version, a header of text, then raw bytes that the header describes, and a checksum
/// (XXH3) of all before it. Numbers are little-endian.
inline constexpr uint32_t kSessionVersion = 1;

/// Writes one beside its place and moves it there when it is whole; until then nothing of an earlier file is lost.
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

/// Reads one that is whole: magic, version and checksum are looked at before anything else.
class SessionReader {
  public:
    static Result<SessionReader> open(const std::string& path);
    SessionReader(SessionReader&&) noexcept;
    SessionReader& operator=(SessionReader&&) noexcept;
    ~SessionReader();

    const std::string& header() const;
    uint64_t bytes_left() const;
    /// The next bytes; fails where fewer are left.
    Result<void> read(std::span<std::byte> bytes);
    /// An error that names the file and what is wrong in it.
    std::unexpected<Error> damaged(std::string_view what) const;

  private:
    struct State;
    explicit SessionReader(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

}  // namespace cake
