#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace cake::cli {

/// A bar on a terminal's standard error: share done, how fast, time left. Silent where that is no terminal.
class ProgressBar {
  public:
    explicit ProgressBar(std::string what);
    ~ProgressBar() { clear(); }
    ProgressBar(const ProgressBar&) = delete;
    ProgressBar& operator=(const ProgressBar&) = delete;

    /// Tokens, with their number a second.
    void update(int64_t done, int64_t total);
    /// Pieces of work, with their number.
    void update_count(int64_t done, int64_t total);
    void clear();

  private:
    void show(int64_t done, int64_t total, bool tokens);

    using Clock = std::chrono::steady_clock;
    std::string what_;
    bool terminal_;
    bool shown_ = false;
    Clock::time_point begin_ = Clock::now();
    Clock::time_point last_;
};

}  // namespace cake::cli
