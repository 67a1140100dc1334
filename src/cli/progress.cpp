#include "cli/progress.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <format>

namespace cake::cli {

ProgressBar::ProgressBar(std::string what) : what_(std::move(what)), terminal_(::isatty(STDERR_FILENO) == 1) {}

void ProgressBar::update(int64_t done, int64_t total) {
    show(done, total, true);
}

void ProgressBar::update_count(int64_t done, int64_t total) {
    show(done, total, false);
}

void ProgressBar::show(int64_t done, int64_t total, bool tokens) {
    using std::chrono::duration;
    const auto now = Clock::now();
    if (!terminal_ || total <= 0 || (shown_ && now - last_ < std::chrono::milliseconds(100))) return;
    last_ = now;
    shown_ = true;

    constexpr int kWidth = 24;
    const double share = std::clamp(static_cast<double>(done) / static_cast<double>(total), 0.0, 1.0);
    const double seconds = std::max(duration<double>(now - begin_).count(), 1e-3);
    const int full = static_cast<int>(share * kWidth);
    std::string line = std::format("\r{} [{}{}] {:3.0f}%", what_, std::string(static_cast<size_t>(full), '#'),
                                   std::string(static_cast<size_t>(kWidth - full), '.'), share * 100);
    if (done > 0) {
        const auto left = static_cast<int64_t>(seconds * (1 - share) / std::max(share, 1e-9));
        line += tokens ? std::format("  {:.0f} tokens/s", static_cast<double>(done) / seconds)
                       : std::format("  {} of {}", done, total);
        line += std::format("  {}:{:02} left", left / 60, left % 60);
    }
    std::fputs((line + "\x1b[K").c_str(), stderr);
}

void ProgressBar::clear() {
    if (shown_) std::fputs("\r\x1b[K", stderr);
    shown_ = false;
}

}  // namespace cake::cli
