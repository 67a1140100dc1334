#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>

#include "cake/batcher.hpp"

namespace cake::server {

/// A Prometheus histogram of times in seconds.
class Histogram {
  public:
    void add(double seconds);
    std::string text(const std::string& name) const;

  private:
    static constexpr std::array kBounds{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,   0.25,  0.5,
                                        1.0,   2.5,    5.0,   10.0, 30.0,  60.0, 300.0, 1800.0};
    std::array<uint64_t, kBounds.size()> counts_{};  // one for each bucket, not cumulative
    uint64_t count_ = 0;
    double sum_ = 0;
};

/// Counters of the server. Thread-safe.
class Metrics {
  public:
    void add_request(const std::string& route, int status);
    void add_prompt(int64_t n_tokens, int64_t n_cached);
    void add_first_token(double seconds);
    void add_next_token(double seconds);

    /// All metrics in Prometheus' text format, including those of the batcher's report.
    std::string text(const PoolReport& pool) const;

  private:
    mutable std::mutex mutex_;
    std::map<std::pair<std::string, int>, uint64_t> requests_;
    uint64_t prompt_tokens_ = 0;
    uint64_t cached_tokens_ = 0;
    uint64_t generated_tokens_ = 0;
    Histogram first_token_;
    Histogram next_token_;
};

}  // namespace cake::server
