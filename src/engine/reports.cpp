#include "engine/reports.hpp"

#include <algorithm>

namespace cake {

std::vector<LayerReport> layer_reports(const SequenceState& state) {
    std::vector<LayerReport> layers;
    for (const auto& place : state.places) {
        auto& report = layers.emplace_back();
        if (place.windowed)
            report.window = report.budget = state.hparams().n_swa;
        else
            report = state.layers[static_cast<size_t>(place.index)];
        if (state.tokens_per_layer > 0) report.kept = state.store_of(place).tokens_held(place.index);
    }
    return layers;
}

MemoryReport memory_report(const SequenceState& state) {
    const auto& s = state;
    if (s.tokens_per_layer == 0) return {};
    const auto bytes_of = [](const KvShape& shape, int64_t tokens) {
        return static_cast<uint64_t>(shape.n_layer) * shape.token_bytes() * static_cast<uint64_t>(tokens);
    };
    const int64_t n_window = std::min<int64_t>(s.n_tokens, s.hparams().n_swa);
    return {.budget_tokens_per_layer = s.tokens_per_layer,
            .kv_bytes_budget = s.store.bytes_allocated() + s.windows.bytes_allocated(),
            .kv_bytes_peak = s.accountant.bytes_peak(MemoryUse::kv),
            .kv_bytes_now = s.store.bytes_used() + s.windows.bytes_used(),
            .kv_bytes_allocated = s.accountant.bytes_now(MemoryUse::kv),
            .kv_bytes_full_cache = bytes_of(s.shape, s.n_tokens) + bytes_of(s.windows_shape, n_window),
            .layer_bytes = s.layer_bytes,
            .hidden_bytes_peak = s.accountant.bytes_peak(MemoryUse::hidden),
            .compute_bytes_peak = s.accountant.bytes_peak(MemoryUse::compute)};
}

std::vector<int32_t> layers_holding(const SequenceState& state, int64_t n_tokens) {
    std::vector<int32_t> counts(static_cast<size_t>(n_tokens));
    if (state.tokens_per_layer == 0) return counts;
    std::vector<int32_t> last_seen(counts.size(), -1);  // layer that a token was counted for
    int32_t layer = 0;
    for (const auto& place : state.places) {
        const auto& store = state.store_of(place);
        for (int32_t head = 0; head < store.shape().n_head_kv; head++) {
            for (const int32_t position : store.positions(place.index, head)) {
                const auto token = static_cast<size_t>(position);
                if (token >= counts.size() || last_seen[token] == layer) continue;
                last_seen[token] = layer;
                counts[token]++;
            }
        }
        layer++;
    }
    return counts;
}

}  // namespace cake
