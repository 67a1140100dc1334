#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "cake/error.hpp"

namespace cake::cli {

/// The UTF-8 byte order mark, which some editors put at the beginning of a file.
inline constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

/// A text that can be read in pieces: a file, standard input, or a string. Skips a UTF-8 byte order mark at the
/// beginning of a file or of standard input.
class Input {
  public:
    /// `path` "-" is standard input.
    static Result<Input> open(const std::string& path);
    static Input of(std::string text);
    Input(Input&& other) noexcept;
    Input& operator=(Input&&) = delete;
    ~Input();

    /// Waits for the next bytes. Returns an empty string at the end and after Ctrl-C.
    Result<std::string> read_some();
    /// Reads the rest, at most 2 GiB. Ctrl-C is an error.
    Result<std::string> read_all();
    /// The share that has been read so far, if the size is known.
    std::optional<double> share_read() const;

  private:
    Input(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
    Result<std::string> read_bytes();

    std::string path_;
    int fd_ = -1;         // -1: the input is `text_`
    std::string text_;    // part of the string that has not been returned yet
    bool begun_ = false;  // true after the first bytes have been read
    uint64_t n_read_ = 0;
    std::optional<uint64_t> n_bytes_;
};

/// The text of a file, or of standard input if `path` is "-".
Result<std::string> read_file(const std::string& path);

}  // namespace cake::cli
