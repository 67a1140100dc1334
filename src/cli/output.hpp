#pragma once

#include <string>
#include <string_view>

#include "cake/error.hpp"

namespace cake::cli {

/// Opens those of standard input, output and error that are closed, so that no file or socket takes their numbers:
/// reading the first and writing the second stay errors, what is written to the third is lost. False where that fails.
bool open_standard_files();

/// Writes to standard output at once, and says what went wrong (a full disk, a closed pipe) instead of losing it.
Result<void> write_output(std::string_view text);

/// Whether a file can be written there, before long work is done for it; nothing is said against "" and "-".
Result<void> check_place_of(const std::string& path);

/// Writes a file beside its place and moves it there when it is whole.
Result<void> write_whole_file(const std::string& path, std::string_view text);

/// Text that may come from a file, fit for a line of a terminal: control characters become question marks.
std::string printable(std::string_view text);

/// One line to standard error: "cake: …".
void complain(std::string_view message);

}  // namespace cake::cli
