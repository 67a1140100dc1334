#include "eviction/slicing.hpp"

#include <span>
#include <utility>
#include <vector>

#include "method/preference.hpp"
#include "method/selection.hpp"

namespace cake {

int64_t tokens_to_slice(const ManagedCache& managed) {
    return managed.cache.sliced.capacity_tokens() -
           int64_t{managed.rules.layout.sliced.n_layer} * (managed.cache.plan.slack + managed.rules.options.window);
}

double weigh(const ManagedCache& managed, int32_t layer, size_t index, const AttentionStats* stats) {
    double preferred = 0;
    auto& report = managed.report.layers[static_cast<size_t>(layer)];
    report = {};
    if (stats != nullptr && (managed.rules.policy.allocator->reads_attention || managed.rules.options.analyse)) {
        preferred = preference(stats->dispersion, stats->shift, managed.rules.options.tau1, managed.rules.options.tau2);
        report = {.dispersion = stats->dispersion, .shift = stats->shift, .preference = preferred};
    }
    return managed.rules.policy.allocator->weight(static_cast<int32_t>(index), managed.rules.layout.sliced.n_layer,
                                                  preferred);
}

void shrink(const ManagedCache& managed, int32_t layer, int32_t n_keep) {
    auto& store = managed.cache.sliced;
    if (store.tokens_held(layer) <= n_keep) return;
    std::vector<std::span<const float>> scores;
    for (int32_t head = 0; head < managed.rules.layout.sliced.n_head_kv; head++)
        scores.push_back(std::as_const(store).scores(layer, head));
    const auto kept = select_heads(scores, n_keep, managed.rules.options.window, managed.rules.policy.allocator->heads);
    managed.progress.n_evicted_slots += store.n_held(layer);
    for (size_t head = 0; head < kept.size(); head++) store.keep(layer, static_cast<int32_t>(head), kept[head]);
    managed.progress.n_evicted_slots -= store.n_held(layer);
}

void make_room_for_decoding(const ManagedCache& managed) {
    auto& store = managed.cache.sliced;
    const auto layers = store.layers();
    const int64_t n_runs = std::ssize(layers) * managed.rules.layout.sliced.n_head_kv;
    int64_t left = store.buffer().n_slots() - n_runs * managed.cache.plan.slack;
    for (const int32_t layer : layers) left -= store.n_held(layer);
    // All runs get an equal share of the slots that the prompt left free. If the prompt filled part of the slack, the
    // share is negative, and the first eviction frees the slack again.
    const int64_t share = left >= 0 ? left / n_runs : -((-left + n_runs - 1) / n_runs);

    std::vector<int32_t> capacities;
    for (const int32_t layer : layers) {
        managed.report.layers[static_cast<size_t>(layer)].budget = store.tokens_held(layer) + share;
        for (const Run& run : store.runs(layer))
            capacities.push_back(run.length + static_cast<int32_t>(share) + managed.cache.plan.slack);
    }
    store.arrange(capacities);
}

}  // namespace cake
