#pragma once

#include <algorithm>
#include <chrono>
#include <map>
#include <mutex>
#include <optional>
#include <string>

#include "cake/batcher.hpp"

namespace cake {

/// Keeps the reports that take long to make, for a time that is long compared with that, so that asking for them again
/// and again does not hold up the compute thread. All functions may be called from any thread.
class RecentReports {
  public:
    using Clock = std::chrono::steady_clock;

    std::optional<SlotReport> find(const std::string& id, Clock::time_point now) {
        const std::scoped_lock lock(mutex_);
        std::erase_if(kept_, [&](const auto& entry) { return entry.second.until <= now; });
        const auto found = kept_.find(id);
        return found == kept_.end() ? std::nullopt : std::optional(found->second.report);
    }

    /// `taken`: the time that the compute thread spent on the report.
    void keep(const SlotReport& report, Clock::duration taken, Clock::time_point now) {
        constexpr std::chrono::milliseconds kLong(2);
        constexpr std::chrono::milliseconds kMost(1000);
        constexpr int kTimes = 10;
        if (taken < kLong) return;
        const std::scoped_lock lock(mutex_);
        kept_[report.id] = {.report = report, .until = now + std::min<Clock::duration>(kTimes * taken, kMost)};
    }

  private:
    struct Kept {
        SlotReport report;
        Clock::time_point until;
    };

    std::mutex mutex_;
    std::map<std::string, Kept> kept_;  // by ID
};

}  // namespace cake
