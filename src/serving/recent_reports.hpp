#pragma once

#include <chrono>
#include <map>
#include <mutex>
#include <optional>
#include <string>

#include "cake/batcher.hpp"

namespace cake {

/// Keeps each report for a while that is long compared with the time that it took to make, so that asking for it again
/// and again does not hold up the compute thread. All functions may be called from any thread.
class RecentReports {
  public:
    /// The report for an ID: the one that is kept, or a new one from `make`.
    template <typename Make>
    std::optional<SlotReport> get(const std::string& id, Make make) {
        const std::scoped_lock lock(mutex_);
        const auto begin = Clock::now();
        std::erase_if(kept_, [&](const auto& entry) { return entry.second.until <= begin; });
        if (const auto found = kept_.find(id); found != kept_.end()) return found->second.report;
        std::optional<SlotReport> report = make();
        const auto end = Clock::now();
        constexpr int kTimes = 10;
        if (report) kept_[id] = {.report = *report, .until = end + kTimes * (end - begin)};
        return report;
    }

  private:
    using Clock = std::chrono::steady_clock;
    struct Kept {
        SlotReport report;
        Clock::time_point until;
    };

    std::mutex mutex_;
    std::map<std::string, Kept> kept_;  // by ID
};

}  // namespace cake
