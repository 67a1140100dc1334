#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>

#include "cake/engine.hpp"

namespace cake::cli {

/// Exit codes: the same for every command.
inline constexpr int kDone = 0;
inline constexpr int kFailed = 1;
inline constexpr int kWrongUsage = 2;
inline constexpr int kInterrupted = 130;

/// Refuses what is not a number from `least` to `most`; NaN, which comparisons let through, is none.
CLI::Validator number_in(double least, double most);

/// Makes every command refuse, for options that take a number, what is not written as a plain decimal one. CLI11 alone
/// reads "0,5" and "0_5" as 5, "010" as 8 and "0x10" as 16. Called once, when all options are there.
void require_plain_numbers(CLI::App& app);

/// "2GiB", "500M", "1048576": bytes. K, M, G, T are powers of 1024, with or without iB.
Result<uint64_t> parse_size(const std::string& text);

/// 1610612736 as "1.50 GiB".
std::string format_bytes(uint64_t n_bytes);

/// 32768 as "32,768".
std::string format_count(uint64_t n);

}  // namespace cake::cli
