#include "eviction/decode_eviction.hpp"

#include <algorithm>
#include <cassert>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "eviction/analyzer.hpp"
#include "eviction/scoring.hpp"
#include "eviction/slicing.hpp"
#include "method/allocator.hpp"

namespace cake {

Result<void> add_decoded_attention(GraphRunner& runner, const ManagedCache& managed, int32_t layer) {
    auto& unread = managed.progress.n_unread[static_cast<size_t>(layer)];
    if (!managed.rules.sums_attention() || unread == 0) return {};
    AttentionInput input{.queries = managed.cache.queries.layer(layer),
                         .window = newest_queries(managed.cache.queries, unread),
                         .k = managed.cache.sliced.buffer(layer).k(),
                         .heads = held_slots(managed.cache.sliced, layer)};
    std::vector<std::span<float>> sums;
    for (int32_t head = 0; head < managed.rules.layout.sliced.n_head_kv; head++)
        sums.push_back(managed.cache.sliced.sums(layer, head));
    auto done = add_attention(runner, managed.rules.attention, managed.rules.traits_of(layer), input, sums);
    if (!done) return done;
    unread = 0;
    managed.progress.n_settled = managed.progress.n_tokens;
    return {};
}

namespace {

/// Scores the tokens of a layer in the store with the queries in the ring. The last `window` tokens get a score of
/// infinity, so they always stay. Returns the statistics if `reads_window`.
Result<std::optional<AttentionStats>> score_decoded(GraphRunner& runner, const ManagedCache& managed, int32_t layer,
                                                    int32_t window, bool reads_window) {
    auto& store = managed.cache.sliced;
    const int32_t n_head_kv = managed.rules.layout.sliced.n_head_kv;
    if (auto added = add_decoded_attention(runner, managed, layer); !added) return std::unexpected(added.error());

    LayerKeys keys = held_keys(store, layer, window);
    const AccountedBytes held(managed.accountant, MemoryUse::compute,
                              scoring_bytes(managed.rules, managed.rules.decode_scorer(), store.n_held(layer)));
    std::optional<AttentionStats> stats;
    if (reads_window) {
        auto analysed = analyse_window(runner, managed, layer, keys);
        if (!analysed) return std::unexpected(analysed.error());
        stats = std::move(*analysed);
        keys.stats = &*stats;
    }
    const auto scores = score_layer(runner, managed, managed.rules.decode_scorer(), layer, keys);
    if (!scores) return std::unexpected(scores.error());
    for (int32_t head = 0; head < n_head_kv; head++)
        std::ranges::copy((*scores)[static_cast<size_t>(head)], store.scores(layer, head).begin());
    return stats;
}

/// Divides the slots of a layer that hold no token equally among its KV heads.
void share_free_slots(KvStore& store, int32_t layer) {
    std::vector<int32_t> capacities;
    int32_t n_free = 0;
    for (const Run& run : store.runs(layer)) {
        capacities.push_back(run.length);
        n_free += run.capacity - run.length;
    }
    const auto n_heads = static_cast<int32_t>(capacities.size());
    for (int32_t head = 0; head < n_heads; head++)
        capacities[static_cast<size_t>(head)] += n_free / n_heads + (head < n_free % n_heads ? 1 : 0);
    store.arrange_layer(layer, capacities);
}

}  // namespace

bool holds_whole_text(const ManagedCache& managed) {
    const auto& store = managed.cache.sliced;
    return std::ranges::all_of(store.layers(), [&](int32_t layer) {
        return store.n_held(layer) >= managed.progress.n_tokens * store.shape().n_head_kv;
    });
}

Result<void> slice_decoded(GraphRunner& runner, const ManagedCache& managed) {
    const int32_t window = managed.rules.options.window;
    std::vector<double> weights;
    std::vector<int32_t> caps;
    const auto layers = managed.cache.sliced.layers();
    for (const int32_t layer : layers) {
        const auto stats = score_decoded(runner, managed, layer, window, managed.rules.reads_window(true));
        if (!stats) return std::unexpected(stats.error());
        weights.push_back(weigh(managed, layer, weights.size(), *stats ? &**stats : nullptr,
                                stored_scores(managed.cache.sliced, layer)));
        caps.push_back(static_cast<int32_t>(managed.cache.sliced.tokens_held(layer)) - window);
    }
    if (managed.rules.allocator().heads.split == HeadSplit::model) {
        ScoreViews scores;
        for (const int32_t layer : layers) scores.append_range(stored_scores(managed.cache.sliced, layer));
        const auto n_kept = divide_among_heads(managed, scores, tokens_to_slice(managed));
        const auto n_head_kv = static_cast<size_t>(managed.rules.layout.sliced.n_head_kv);
        for (size_t i = 0; i < layers.size(); i++)
            shrink_heads(managed, layers[i], std::span(n_kept).subspan(i * n_head_kv, n_head_kv));
    } else {
        const auto budgets = water_fill(tokens_to_slice(managed), weights, caps);
        for (size_t i = 0; i < layers.size(); i++) shrink(managed, layers[i], budgets[i] + window);
    }
    managed.progress.n_settled = managed.progress.n_tokens;
    make_room_for_decoding(managed);
    return {};
}

Result<void> evict_decoded(GraphRunner& runner, const ManagedCache& managed, int32_t layer) {
    assert(managed.rules.evicts() && "a store that keeps everything has room, or the token is refused");
    auto& store = managed.cache.sliced;
    const auto n_keep = static_cast<int32_t>(managed.report.layers[static_cast<size_t>(layer)].budget);
    const int32_t window = std::min(managed.rules.options.window, n_keep);
    if (auto scored = score_decoded(runner, managed, layer, window, managed.rules.decode_scorer().reads.window);
        !scored)
        return std::unexpected(scored.error());
    shrink(managed, layer, n_keep);
    managed.progress.n_settled = managed.progress.n_tokens;
    if (managed.rules.allocator().is_per_head()) share_free_slots(store, layer);
    return {};
}

}  // namespace cake
