#include "engine/reports.hpp"

#include <algorithm>

namespace cake {

std::vector<LayerReport> layer_reports(const SequenceParts& state) {
    std::vector<LayerReport> layers = state.report.layers;
    for (int32_t layer = 0; layer < std::ssize(layers); layer++) {
        auto& report = layers[static_cast<size_t>(layer)];
        const auto& layout = state.config.layout;
        if (layout.is_sliding(layer)) report.window = report.budget = layout.n_swa;
        report.recurrent = layout.is_recurrent(layer);
        if (layout.holds_tokens(layer)) {
            report.n_head_kv = layout.is_sliding(layer) ? layout.sliding.n_head_kv : layout.sliced.n_head_kv;
            if (state.cache.is_open()) report.kept = state.cache.of(layer).tokens_held(layer);
        } else if (!report.recurrent) {
            report.kv_layer = state.config.hparams().kv_layer(layer);
        }
    }
    return layers;
}

MemoryReport memory_report(const SequenceParts& state) {
    const auto& s = state;
    if (!s.cache.is_open()) return {};
    const auto bytes_of = [](const KvShape& shape, int64_t tokens) {
        return static_cast<uint64_t>(shape.n_layer) * shape.token_bytes() * static_cast<uint64_t>(tokens);
    };
    const uint64_t n_recurrent = s.config.layout.recurrent_bytes();
    const int64_t n_window = std::min<int64_t>(s.progress.n_tokens, s.config.hparams().n_swa);
    return {.budget_tokens_per_layer = s.cache.plan.tokens_per_layer,
            .kv_bytes_budget = s.cache.sliced.bytes_allocated() + s.cache.sliding.bytes_allocated() + n_recurrent,
            .kv_bytes_peak = s.accountant.bytes_peak(MemoryUse::kv),
            .kv_bytes_now = s.cache.sliced.bytes_used() + s.cache.sliding.bytes_used() + n_recurrent,
            .kv_bytes_allocated = s.accountant.bytes_now(MemoryUse::kv),
            .kv_bytes_full_cache = bytes_of(s.config.layout.sliced, s.progress.n_tokens) +
                                   bytes_of(s.config.layout.sliding, n_window) + n_recurrent,
            .layer_bytes = s.report.layer_bytes,
            .hidden_bytes_peak = s.accountant.bytes_peak(MemoryUse::hidden),
            .compute_bytes_peak = s.accountant.bytes_peak(MemoryUse::compute),
            .devices = device_reports(state)};
}

std::vector<DeviceMemoryReport> device_reports(const Accountant& accountant, const Compute& compute) {
    std::vector<DeviceMemoryReport> reports;
    if (compute.is_cpu()) return reports;
    for (ggml_backend_t backend : compute.backends()) {
        ggml_backend_dev_t device = device_of(ggml_backend_get_default_buffer_type(backend));
        reports.push_back({.device = device == nullptr ? "" : ggml_backend_dev_name(device),
                           .kv_bytes_peak = accountant.bytes_peak(MemoryUse::kv, device),
                           .kv_bytes_allocated = accountant.bytes_now(MemoryUse::kv, device),
                           .hidden_bytes_peak = accountant.bytes_peak(MemoryUse::hidden, device),
                           .compute_bytes_peak = accountant.bytes_peak(MemoryUse::compute, device)});
    }
    return reports;
}

std::vector<DeviceMemoryReport> device_reports(const SequenceParts& state) {
    const auto& compute = state.config.engine->compute;
    auto reports = device_reports(state.accountant, compute);
    for (size_t i = 0; i < reports.size(); i++) {
        ggml_backend_dev_t device = device_of(ggml_backend_get_default_buffer_type(compute.backends()[i]));
        reports[i].kv_bytes_budget = state.cache.bytes_on(device);
    }
    return reports;
}

std::vector<int32_t> layers_holding(const SequenceParts& state, int64_t n_tokens) {
    std::vector<int32_t> counts(static_cast<size_t>(n_tokens));
    if (!state.cache.is_open()) return counts;
    std::vector<int32_t> last_seen(counts.size(), -1);  // last layer in which the token was counted
    for (int32_t layer = 0; layer < state.config.hparams().n_layer; layer++) {
        if (!state.config.layout.holds_tokens(layer)) continue;
        const auto& store = state.cache.of(layer);
        for (int32_t head = 0; head < store.shape().n_head_kv; head++) {
            for (const int32_t position : store.positions(layer, head)) {
                const auto token = static_cast<size_t>(position);
                if (token >= counts.size() || last_seen[token] == layer) continue;
                last_seen[token] = layer;
                counts[token]++;
            }
        }
    }
    return counts;
}

}  // namespace cake
