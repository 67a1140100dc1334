#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "cake/error.hpp"

namespace cake::cli {

/// The UTF-8 byte order mark, with which some editors begin a file.
inline constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

/// A text that is read as it comes: a file, standard input, or one that is at hand. A UTF-8 byte order mark at the
/// beginning of a file or of standard input is not part of the text.
class Input {
  public:
    /// `path` "-" is standard input.
    static Result<Input> open(const std::string& path);
    static Input of(std::string text);
    Input(Input&& other) noexcept;
    Input& operator=(Input&&) = delete;
    ~Input();

    /// Waits for some bytes; empty at the end, and after Ctrl-C.
    Result<std::string> read_some();
    /// All that is left; 2 GiB at most. Ctrl-C is an error.
    Result<std::string> read_all();
    /// What share of it has been read, where its length is known.
    std::optional<double> share_read() const;

  private:
    Input(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
    Result<std::string> read_bytes();

    std::string path_;
    int fd_ = -1;         // -1: the text is `text_`
    std::string text_;    // not given out yet
    bool begun_ = false;  // bytes were read
    uint64_t n_read_ = 0;
    std::optional<uint64_t> n_bytes_;
};

/// The text of a file, or of standard input where `path` is "-".
Result<std::string> read_file(const std::string& path);

}  // namespace cake::cli
