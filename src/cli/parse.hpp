#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>

#include "cake/engine.hpp"

namespace cake::cli {

/// Exit codes of all commands.
inline constexpr int kDone = 0;
inline constexpr int kFailed = 1;
inline constexpr int kWrongUsage = 2;
inline constexpr int kInterrupted = 130;

/// Accepts numbers from `least` to `most`. Also refuses NaN, which CLI::Range accepts.
CLI::Validator number_in(double least, double most);

/// Makes all options that take a number accept only plain decimal numbers. CLI11 itself reads "0,5" and "0_5" as 5,
/// "010" as 8 and "0x10" as 16. Call it once, after all options have been added.
void require_plain_numbers(CLI::App& app);

/// Parses a size such as "2GiB", "500M" or "1048576" in bytes. K, M, G and T are powers of 1024, with or without iB.
Result<uint64_t> parse_size(const std::string& text);

/// Formats 1610612736 as "1.50 GiB".
std::string format_bytes(uint64_t n_bytes);

/// Formats 32768 as "32,768".
std::string format_count(uint64_t n);

}  // namespace cake::cli
