#include "eviction/slicing.hpp"

#include <span>
#include <utility>
#include <vector>

#include "method/lava.hpp"
#include "method/preference.hpp"
#include "method/selection.hpp"

namespace cake {

int64_t tokens_to_slice(const ManagedCache& managed) {
    return managed.cache.sliced.capacity_tokens() -
           int64_t{managed.rules.layout.sliced.n_layer} * (managed.cache.plan.slack + managed.rules.options.window);
}

ScoreViews stored_scores(const KvStore& store, int32_t layer) {
    ScoreViews scores;
    for (int32_t head = 0; head < store.shape().n_head_kv; head++) scores.push_back(store.scores(layer, head));
    return scores;
}

double weigh(const ManagedCache& managed, int32_t layer, size_t index, const AttentionStats* stats,
             const ScoreViews& scores) {
    const auto& rules = managed.rules;
    LayerSignals signals{.index = static_cast<int32_t>(index), .n_layer = rules.layout.sliced.n_layer};
    auto& report = managed.report.layers[static_cast<size_t>(layer)];
    report = {};
    if (stats != nullptr && (rules.allocator().reads_attention || rules.options.analyse)) {
        signals.preference = preference(stats->dispersion, stats->shift, rules.options.tau1, rules.options.tau2);
        report = {.dispersion = stats->dispersion, .shift = stats->shift, .preference = signals.preference};
    }
    if (rules.allocator().reads_entropy) signals.entropy = score_entropy(scores);
    return rules.allocator().weight(signals);
}

std::vector<int32_t> divide_among_heads(const ManagedCache& managed, const ScoreViews& scores, int64_t total_tokens) {
    const auto& rules = managed.rules;
    const int32_t window = rules.options.window;
    // The floor is a share of what a head gets on average in the end, so that it is the same at every stage.
    const auto share = static_cast<int32_t>(tokens_to_slice(managed) / rules.layout.sliced.n_layer);
    const int64_t total = total_tokens * rules.layout.sliced.n_head_kv + std::ssize(scores) * window;
    return select_model(scores, total, rules.allocator().heads.floor_of(share + window, window));
}

namespace {

/// Drops all tokens of a layer but those at the `kept` indices of each KV head.
void keep_only(const ManagedCache& managed, int32_t layer, std::span<const std::vector<int32_t>> kept) {
    auto& store = managed.cache.sliced;
    managed.progress.n_evicted_slots += store.n_held(layer);
    for (size_t head = 0; head < kept.size(); head++) store.keep(layer, static_cast<int32_t>(head), kept[head]);
    managed.progress.n_evicted_slots -= store.n_held(layer);
}

}  // namespace

void shrink(const ManagedCache& managed, int32_t layer, int32_t n_keep) {
    const auto& store = managed.cache.sliced;
    if (store.tokens_held(layer) <= n_keep) return;
    keep_only(managed, layer,
              select_heads(stored_scores(store, layer), n_keep, managed.rules.options.window,
                           managed.rules.allocator().heads));
}

void shrink_heads(const ManagedCache& managed, int32_t layer, std::span<const int32_t> n_keep) {
    std::vector<std::vector<int32_t>> kept;
    for (const auto scores : stored_scores(managed.cache.sliced, layer))
        kept.push_back(select_top(scores, n_keep[kept.size()]));
    keep_only(managed, layer, kept);
}

void make_room_for_decoding(const ManagedCache& managed) {
    auto& store = managed.cache.sliced;
    const auto layers = store.layers();
    const int64_t n_runs = std::ssize(layers) * managed.rules.layout.sliced.n_head_kv;
    int64_t left = store.n_slots() - n_runs * managed.cache.plan.slack;
    for (const int32_t layer : layers) left -= store.n_held(layer);
    // All runs get an equal share of the slots that the prompt left free. If the prompt filled part of the slack, the
    // share is negative, and the first eviction frees the slack again.
    const int64_t share = left >= 0 ? left / n_runs : -((-left + n_runs - 1) / n_runs);

    std::vector<int32_t> capacities;
    for (const int32_t layer : layers) {
        // Rounded down, so that an eviction frees the slack of every KV head.
        managed.report.layers[static_cast<size_t>(layer)].budget =
            store.n_held(layer) / managed.rules.layout.sliced.n_head_kv + share;
        for (const Run& run : store.runs(layer))
            capacities.push_back(run.length + static_cast<int32_t>(share) + managed.cache.plan.slack);
    }
    store.arrange(capacities);
}

}  // namespace cake
