#include "cli/progress.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace cake::cli {

ProgressBar::ProgressBar(std::string what) : what_(std::move(what)), terminal_(::isatty(STDERR_FILENO) == 1) {}

void ProgressBar::update(int64_t done, int64_t total) {
    if (total > 0) update_stream(done, static_cast<double>(done) / static_cast<double>(total));
}

void ProgressBar::update_stream(int64_t done, std::optional<double> share) {
    if (!is_due()) return;
    const double seconds = std::max(std::chrono::duration<double>(last_ - begin_).count(), 1e-3);
    show(fmt::format("{}{:.0f} tokens/s", share ? "" : fmt::format("{} tokens  ", done),
                     static_cast<double>(done) / seconds),
         share);
}

void ProgressBar::update_count(int64_t done, int64_t total) {
    if (total > 0 && is_due())
        show(fmt::format("{} of {}", done, total), static_cast<double>(done) / static_cast<double>(total));
}

bool ProgressBar::is_due() {
    const auto now = Clock::now();
    if (terminal_ ? shown_ && now - last_ < kRedraw : now - last_ < kLogged) return false;
    last_ = now;
    shown_ = true;
    return true;
}

void ProgressBar::show(std::string_view work, std::optional<double> share) {
    constexpr int kWidth = 24;
    std::string line = what_;
    if (share) {
        const double done = std::clamp(*share, 0.0, 1.0);
        const auto full = static_cast<size_t>(done * kWidth);
        if (terminal_) line += fmt::format(" [{}{}]", std::string(full, '#'), std::string(kWidth - full, '.'));
        line += fmt::format(" {:3.0f}%", done * 100);
    }
    line += fmt::format("  {}", work);
    if (share && *share > 0) {
        const double seconds = std::chrono::duration<double>(last_ - begin_).count();
        const auto left = static_cast<int64_t>(seconds * (1 - std::min(*share, 1.0)) / *share);
        line += fmt::format("  {}:{:02} left", left / 60, left % 60);
    }
    std::fputs((terminal_ ? "\r" + line + "\x1b[K" : "cake: " + line + "\n").c_str(), stderr);
}

void ProgressBar::clear() {
    if (terminal_ && shown_) std::fputs("\r\x1b[K", stderr);
    shown_ = false;
}

}  // namespace cake::cli
