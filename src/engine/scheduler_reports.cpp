#include <utility>

#include "engine/engine_state.hpp"
#include "engine/reports.hpp"
#include "engine/scheduler.hpp"

namespace cake {

PoolReport Scheduler::report() {
    return between_steps([this] {
        PoolReport report{.kv_bytes_bound = pool_.bytes_bound(),
                          .kv_bytes_now = accountant_.bytes_now(MemoryUse::kv),
                          .kv_bytes_peak = accountant_.bytes_peak(MemoryUse::kv),
                          .hidden_bytes_peak = accountant_.bytes_peak(MemoryUse::hidden),
                          .compute_bytes_peak = accountant_.bytes_peak(MemoryUse::compute),
                          .n_waiting = static_cast<int64_t>(n_waiting()),
                          .n_idle = static_cast<int64_t>(idle_.size())};
        int64_t n_slots = n_evicted_slots_;
        for (const auto& running : running_) {
            (running.answering->is_reading() ? report.n_reading : report.n_generating)++;
            for (const auto& choice : running.answering->choices())
                n_slots += choice.resident.state->progress.n_evicted_slots;
        }
        for (const auto& resident : idle_) n_slots += resident.state->progress.n_evicted_slots;
        report.n_evicted_tokens = n_slots / engine_->hparams.n_head_kv;
        return report;
    });
}

std::vector<SlotReport> Scheduler::slots() {
    return between_steps([this] {
        std::vector<SlotReport> reports;
        for (const auto& running : running_) reports.push_back(report_of(running, false));
        {
            const std::scoped_lock lock(mutex_);
            for (size_t i = 0; i < waiting_.size(); i++) reports.push_back(report_of(waiting_[i], i));
        }
        for (const auto& resident : idle_) reports.push_back(report_of(resident, SlotState::idle, false));
        return reports;
    });
}

std::optional<SlotReport> Scheduler::slot(const std::string& id) {
    return between_steps([&]() -> std::optional<SlotReport> {
        for (const auto& running : running_)
            if (running.answering->request().id == id) return report_of(running, true);
        for (const auto& resident : idle_)
            if (resident.id == id) return report_of(resident, SlotState::idle, true);
        const std::scoped_lock lock(mutex_);
        for (size_t i = 0; i < waiting_.size(); i++)
            if (waiting_[i].request->id == id) return report_of(waiting_[i], i);
        return std::nullopt;
    });
}

SlotReport Scheduler::report_of(const Waiting& waiting, size_t n_ahead) {
    return {.id = waiting.request->id,
            .state = SlotState::queued,
            .queue_position = static_cast<int64_t>(n_ahead) + 1,
            .n_prompt = static_cast<int64_t>(waiting.request->prompt.size()),
            .policy = waiting.request->sequence.policy};
}

SlotReport Scheduler::report_of(const Running& running, bool with_text) {
    const auto& answering = *running.answering;
    auto report = report_of(answering.choices().front().resident,
                            answering.is_reading() ? SlotState::reading : SlotState::generating, false);
    report.n_prompt = static_cast<int64_t>(answering.request().prompt.size());
    report.n_read = answering.n_read();
    report.n_cached = answering.n_cached();
    report.n_generated = answering.n_drawn();
    if (with_text) {
        const auto& resident = answering.choices().front().resident;
        report.tokens = answering.is_reading() ? answering.request().prompt : resident.tokens;
        report.held = layers_holding(*resident.state, static_cast<int64_t>(report.tokens.size()));
    }
    return report;
}

SlotReport Scheduler::report_of(const Resident& resident, SlotState state, bool with_text) {
    const auto n_prompt = static_cast<int64_t>(resident.n_prompt);
    SlotReport report{.id = resident.id,
                      .state = state,
                      .n_prompt = n_prompt,
                      .n_read = n_prompt,
                      .n_generated = static_cast<int64_t>(resident.tokens.size()) - n_prompt,
                      .policy = resident.state->config.options.policy,
                      .memory = memory_report(*resident.state),
                      .layers = layer_reports(*resident.state)};
    if (with_text) {
        report.tokens = resident.tokens;
        report.held = layers_holding(*resident.state, static_cast<int64_t>(resident.tokens.size()));
    }
    return report;
}

size_t Scheduler::n_waiting() {
    const std::scoped_lock lock(mutex_);
    return waiting_.size();
}

}  // namespace cake
