#pragma once

#include <string>
#include <string_view>

#include "cake/error.hpp"

namespace cake::cli {

/// Opens standard input, output and error if they are closed, so that no other file or socket gets their descriptors.
/// Reading such an input or writing such an output still fails; text for standard error is discarded. Returns false on
/// failure.
bool open_standard_files();

/// Writes to standard output without buffering. Returns an error if it fails, for example if a disk is full or a pipe
/// is closed.
Result<void> write_output(std::string_view text);

/// Checks that a file can be written at `path`, to be called before long work. "" and "-" are always accepted.
Result<void> check_place_of(const std::string& path);

/// Writes a temporary file beside `path` and renames it when it is complete.
Result<void> write_whole_file(const std::string& path, std::string_view text);

/// Replaces control characters with question marks. For text from files that is printed on a terminal.
std::string printable(std::string_view text);

/// Prints "cake: …" as one line to standard error.
void complain(std::string_view message);

}  // namespace cake::cli
