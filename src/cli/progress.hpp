#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace cake::cli {

inline double seconds_since(std::chrono::steady_clock::time_point begin) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

/// Shows progress on standard error: share done, speed, time left. On a terminal it is a bar, elsewhere a line per
/// minute.
class ProgressBar {
  public:
    explicit ProgressBar(std::string what);
    ~ProgressBar() { clear(); }
    ProgressBar(const ProgressBar&) = delete;
    ProgressBar& operator=(const ProgressBar&) = delete;

    /// Progress in tokens, with tokens per second.
    void update(int64_t done, int64_t total);
    /// The same for a text of which `share` has been read; not set if its length is unknown.
    void update_stream(int64_t done, std::optional<double> share);
    /// Progress in items, with their number.
    void update_count(int64_t done, int64_t total);
    void clear();

  private:
    bool is_due();
    void show(std::string_view work, std::optional<double> share);

    using Clock = std::chrono::steady_clock;
    static constexpr std::chrono::milliseconds kRedraw{100};
    static constexpr std::chrono::minutes kLogged{1};
    std::string what_;
    bool terminal_;
    bool shown_ = false;
    Clock::time_point begin_ = Clock::now();
    Clock::time_point last_ = begin_;
};

}  // namespace cake::cli
