#include "server/metrics.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace cake::server {

namespace {

std::string heading(const std::string& name, const char* type, const char* help) {
    return fmt::format("# HELP {} {}\n# TYPE {} {}\n", name, help, name, type);
}

template <typename T>
std::string metric(const std::string& name, const char* type, const char* help, T value) {
    return heading(name, type, help) + fmt::format("{} {}\n", name, value);
}

/// The memory of each device; empty if the CPU computes all layers.
std::string device_metrics(const PoolReport& pool) {
    if (pool.devices.empty()) return {};
    std::string text;
    const auto add = [&](const char* name, const char* help, uint64_t DeviceMemoryReport::* bytes) {
        text += heading(name, "gauge", help);
        for (const auto& device : pool.devices)
            text += fmt::format("{}{{device=\"{}\"}} {}\n", name, device.device.empty() ? "CPU" : device.device,
                                device.*bytes);
    };
    add("cake_device_kv_bytes", "K/V memory that is allocated now, by device.",
        &DeviceMemoryReport::kv_bytes_allocated);
    add("cake_device_kv_bytes_peak", "Its peak, by device.", &DeviceMemoryReport::kv_bytes_peak);
    add("cake_device_hidden_bytes_peak", "Peak memory of hidden states, by device.",
        &DeviceMemoryReport::hidden_bytes_peak);
    add("cake_device_compute_bytes_peak", "Peak memory of intermediate results, by device.",
        &DeviceMemoryReport::compute_bytes_peak);
    return text;
}

}  // namespace

void Histogram::add(double seconds) {
    const auto* bound = std::ranges::lower_bound(kBounds, seconds);
    if (bound != kBounds.end()) counts_[static_cast<size_t>(bound - kBounds.begin())]++;
    count_++;
    sum_ += seconds;
}

std::string Histogram::text(const std::string& name) const {
    std::string text;
    uint64_t n = 0;
    for (size_t i = 0; i < kBounds.size(); i++) {
        n += counts_[i];
        text += fmt::format("{}_bucket{{le=\"{}\"}} {}\n", name, kBounds[i], n);
    }
    return text +
           fmt::format("{}_bucket{{le=\"+Inf\"}} {}\n{}_sum {}\n{}_count {}\n", name, count_, name, sum_, name, count_);
}

void Metrics::add_request(const std::string& route, int status) {
    const std::scoped_lock lock(mutex_);
    requests_[{route, status}]++;
}

void Metrics::add_prompt(int64_t n_tokens, int64_t n_cached) {
    const std::scoped_lock lock(mutex_);
    prompt_tokens_ += static_cast<uint64_t>(n_tokens);
    cached_tokens_ += static_cast<uint64_t>(n_cached);
}

void Metrics::add_first_token(double seconds) {
    const std::scoped_lock lock(mutex_);
    generated_tokens_++;
    first_token_.add(seconds);
}

void Metrics::add_next_token(double seconds) {
    const std::scoped_lock lock(mutex_);
    generated_tokens_++;
    next_token_.add(seconds);
}

std::string Metrics::text(const PoolReport& pool) const {
    const std::scoped_lock lock(mutex_);
    std::string text = heading("cake_requests_total", "counter", "Requests by route and HTTP status.");
    for (const auto& [key, n] : requests_)
        text += fmt::format("cake_requests_total{{route=\"{}\",status=\"{}\"}} {}\n", key.first, key.second, n);
    text += metric("cake_prompt_tokens_total", "counter", "Prompt tokens, including those that were in memory.",
                   prompt_tokens_);
    text += metric("cake_cached_tokens_total", "counter", "Prompt tokens that were already in memory.", cached_tokens_);
    text += metric("cake_generated_tokens_total", "counter", "Generated tokens.", generated_tokens_);
    text +=
        metric("cake_evicted_tokens_total", "counter", "Evicted tokens, counted in each layer.", pool.n_evicted_tokens);
    text +=
        heading("cake_time_to_first_token_seconds", "histogram", "Time from a request's arrival to its first token.");
    text += first_token_.text("cake_time_to_first_token_seconds");
    text += heading("cake_time_between_tokens_seconds", "histogram", "Time between two tokens of an answer.");
    text += next_token_.text("cake_time_between_tokens_seconds");
    text += metric("cake_requests_waiting", "gauge", "Requests in the queue.", pool.n_waiting);
    text += metric("cake_requests_reading", "gauge", "Requests whose prompt is being read.", pool.n_reading);
    text += metric("cake_requests_generating", "gauge", "Requests that are generating.", pool.n_generating);
    text += metric("cake_sequences_idle", "gauge", "Sequences kept in memory for a later turn.", pool.n_idle);
    text += metric("cake_kv_bytes", "gauge", "K/V memory that is allocated now.", pool.kv_bytes_now);
    text += metric("cake_kv_bytes_peak", "gauge", "Peak of the allocated K/V memory.", pool.kv_bytes_peak);
    text += metric("cake_kv_bytes_bound", "gauge", "Upper bound of the K/V memory.", pool.kv_bytes_bound);
    text += metric("cake_hidden_bytes_peak", "gauge", "Peak memory of hidden states.", pool.hidden_bytes_peak);
    text += metric("cake_compute_bytes_peak", "gauge", "Peak memory of intermediate results.", pool.compute_bytes_peak);
    return text + device_metrics(pool);
}

}  // namespace cake::server
