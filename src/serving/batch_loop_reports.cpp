#include <utility>

#include "engine/engine_state.hpp"
#include "engine/reports.hpp"
#include "serving/batch_loop.hpp"

namespace cake {

PoolReport BatchLoop::report() {
    return queue_.between_steps([this] {
        PoolReport report{.kv_bytes_bound = pool_.bytes_bound(),
                          .kv_bytes_now = accountant_.bytes_now(MemoryUse::kv),
                          .kv_bytes_peak = accountant_.bytes_peak(MemoryUse::kv),
                          .hidden_bytes_peak = accountant_.bytes_peak(MemoryUse::hidden),
                          .compute_bytes_peak = accountant_.bytes_peak(MemoryUse::compute),
                          .devices = device_reports(accountant_, engine_->compute),
                          .n_waiting = static_cast<int64_t>(queue_.n_waiting()),
                          .n_idle = static_cast<int64_t>(cache_.size())};
        int64_t n_slots = n_evicted_slots_;
        for (const auto& running : running_) {
            (running.request->is_reading() ? report.n_reading : report.n_generating)++;
            for (const auto& choice : running.request->choices())
                n_slots += choice.sequence.state->progress.n_evicted_slots;
        }
        for (const auto& sequence : cache_) n_slots += sequence.state->progress.n_evicted_slots;
        report.n_evicted_tokens = n_slots / engine_->hparams.n_head_kv;
        return report;
    });
}

std::vector<SlotReport> BatchLoop::slots() {
    return queue_.between_steps([this] {
        std::vector<SlotReport> reports;
        for (const auto& running : running_) reports.push_back(report_of(running, false));
        queue_.for_each_waiting(
            [&](const WaitingRequest& waiting, size_t n_ahead) { reports.push_back(report_of(waiting, n_ahead)); });
        for (const auto& sequence : cache_)
            reports.push_back(report_of(sequence, sequence.is_prefix ? SlotState::prefix : SlotState::idle, false));
        return reports;
    });
}

std::optional<SlotReport> BatchLoop::slot(const std::string& id) {
    using Clock = RecentReports::Clock;
    if (auto kept = reports_.find(id, Clock::now())) return kept;
    Clock::duration taken{};
    auto report = queue_.between_steps([&] {
        const auto begin = Clock::now();
        auto made = new_report(id);
        taken = Clock::now() - begin;
        return made;
    });
    if (report) reports_.keep(*report, taken, Clock::now());
    return report;
}

std::optional<SlotReport> BatchLoop::new_report(const std::string& id) {
    for (const auto& running : running_)
        if (running.request->request().id == id) return report_of(running, true);
    for (const auto& sequence : cache_)
        if (sequence.id == id) return report_of(sequence, SlotState::idle, true);
    std::optional<SlotReport> report;
    queue_.for_each_waiting([&](const WaitingRequest& waiting, size_t n_ahead) {
        if (waiting.request->id == id) report = report_of(waiting, n_ahead);
    });
    return report;
}

SlotReport BatchLoop::report_of(const WaitingRequest& waiting, size_t n_ahead) {
    return {.id = waiting.request->id,
            .state = SlotState::queued,
            .queue_position = static_cast<int64_t>(n_ahead) + 1,
            .n_prompt = static_cast<int64_t>(waiting.request->prompt.size()),
            .policy = waiting.request->sequence.policy};
}

SlotReport BatchLoop::report_of(const Running& running, bool with_text) {
    const auto& request = *running.request;
    auto report = report_of(request.choices().front().sequence,
                            request.is_reading() ? SlotState::reading : SlotState::generating, false);
    report.n_prompt = static_cast<int64_t>(request.request().prompt.size());
    report.n_read = request.n_read();
    report.n_cached = request.n_cached();
    report.n_generated = request.n_drawn();
    if (with_text) {
        const auto& sequence = request.choices().front().sequence;
        report.tokens = request.is_reading() ? request.request().prompt : sequence.tokens;
        report.held = layers_holding(*sequence.state, static_cast<int64_t>(report.tokens.size()));
    }
    return report;
}

SlotReport BatchLoop::report_of(const CachedSequence& sequence, SlotState state, bool with_text) {
    const auto n_prompt = static_cast<int64_t>(sequence.n_prompt);
    SlotReport report{.id = sequence.id,
                      .state = state,
                      .n_prompt = n_prompt,
                      .n_read = n_prompt,
                      .n_generated = static_cast<int64_t>(sequence.tokens.size()) - n_prompt,
                      .policy = sequence.state->config.options.policy,
                      .memory = memory_report(*sequence.state),
                      .layers = layer_reports(*sequence.state)};
    if (with_text) {
        report.tokens = sequence.tokens;
        report.held = layers_holding(*sequence.state, static_cast<int64_t>(sequence.tokens.size()));
    }
    return report;
}

}  // namespace cake
