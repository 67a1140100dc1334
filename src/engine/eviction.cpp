#include "engine/eviction.hpp"

#include <algorithm>
#include <limits>
#include <numeric>

#include "engine/window_analysis.hpp"
#include "method/allocator.hpp"
#include "method/preference.hpp"
#include "method/scorer.hpp"

namespace cake {

namespace {

/// Window tokens stay whatever the others score.
constexpr float kAlways = std::numeric_limits<float>::infinity();

/// Statistics, scores and one head's attention, as the host holds them while a layer is scored.
size_t scoring_bytes(const Hparams& h, int64_t n_total, size_t n_queries) {
    return static_cast<size_t>(n_total) * sizeof(float) *
           (2 * static_cast<size_t>(h.n_head) + 2 * n_queries + static_cast<size_t>(h.n_head_kv));
}

/// Scores of the keys outside the window, by KV head.
std::vector<float> score_layer(const SequenceState& state, int32_t layer, int64_t n_keys,
                               std::span<const int32_t> positions, const AttentionStats* stats) {
    return state.scorer->score({.layer = layer,
                                .n_head = state.hparams().n_head,
                                .n_head_kv = state.hparams().n_head_kv,
                                .n_keys = n_keys,
                                .positions = positions,
                                .stats = stats,
                                .gamma = state.options.gamma,
                                .pool_kernel = state.options.pool_kernel,
                                .seed = state.options.seed});
}

std::vector<int32_t> all_of(int64_t n) {
    std::vector<int32_t> indices(static_cast<size_t>(n));
    std::iota(indices.begin(), indices.end(), 0);
    return indices;
}

void shrink(KvStore& store, int32_t layer, int32_t n_keep) {
    if (store.length(layer) <= n_keep) return;
    for (int32_t head = 0; head < store.shape().n_head_kv; head++) {
        store.keep(layer, head, select_top(store.scores(layer, head), n_keep));
    }
}

}  // namespace

SegmentEviction::SegmentEviction(SequenceState& state, int64_t n_segment) : state_(state) {
    int64_t n_total = 0;
    for (int32_t layer = 0; layer < state.shape.n_layer; layer++) n_total += state.store.length(layer) + n_segment;
    fits_ = n_total <= state.store.capacity_tokens();
}

int64_t SegmentEviction::total_tokens(int32_t layer) const {
    const int64_t n_layer = state_.shape.n_layer;
    const int64_t window = state_.options.window;
    const int64_t capacity = state_.store.capacity_tokens();
    // What later layers still hold of earlier segments, the slack of decoding included, is in the store too.
    int64_t room = capacity - (layer + 1) * window;
    for (int32_t later = layer + 1; later < n_layer; later++) room -= state_.store.length(later);
    return std::max<int64_t>(std::min(room, capacity - n_layer * (state_.slack + window)), 0);
}

void SegmentEviction::arrange(int32_t layer, int32_t n_joining) {
    std::vector<int32_t> capacities;
    for (int32_t l = 0; l < state_.shape.n_layer; l++)
        capacities.push_back(l == layer ? n_joining : state_.store.length(l));
    state_.store.arrange(capacities);
}

void SegmentEviction::join(int32_t layer, const KvBuffer& flight, std::span<const int64_t> head_begin,
                           const std::vector<std::vector<int32_t>>& positions, const AttentionStats* stats) {
    auto& store = state_.store;
    const auto& h = state_.hparams();
    auto& report = state_.layers[static_cast<size_t>(layer)];
    const auto n_total = static_cast<int64_t>(positions.front().size());
    if (fits_) {
        arrange(layer, static_cast<int32_t>(n_total));
        const std::vector<float> scores(static_cast<size_t>(n_total), kAlways);
        for (int32_t head = 0; head < h.n_head_kv; head++) {
            const auto i = static_cast<size_t>(head);
            store.load(layer, head, flight, head_begin[i], all_of(n_total), positions[i], scores);
        }
        return;
    }

    const auto window = static_cast<int32_t>(std::min<int64_t>(state_.options.window, n_total));
    const int64_t n_keys = n_total - window;
    const AccountedBytes held(state_.accountant, MemoryUse::compute,
                              scoring_bytes(h, n_total, static_cast<size_t>(window)));
    double preferred = 0;
    if (stats != nullptr && state_.allocator->reads_attention) {
        preferred = preference(stats->dispersion, stats->shift, state_.options.tau1, state_.options.tau2);
        report = {.dispersion = stats->dispersion, .shift = stats->shift, .preference = preferred};
    }
    const double weight = state_.allocator->weight(layer, h.n_layer, preferred);
    const auto budgets = cascade_.join(weight, static_cast<int32_t>(n_keys), total_tokens(layer));

    for (int32_t earlier = 0; earlier < layer; earlier++)
        shrink(store, earlier, budgets[static_cast<size_t>(earlier)] + state_.options.window);
    arrange(layer, budgets.back() + window);

    std::vector<int32_t> flat;
    for (const auto& head : positions) flat.insert(flat.end(), head.begin(), head.begin() + n_keys);
    const auto scores = score_layer(state_, layer, n_keys, flat, stats);
    for (int32_t head = 0; head < h.n_head_kv; head++) {
        const auto i = static_cast<size_t>(head);
        std::vector<float> head_scores(scores.begin() + head * n_keys, scores.begin() + (head + 1) * n_keys);
        head_scores.resize(static_cast<size_t>(n_total), kAlways);
        const auto kept = select_top(head_scores, budgets.back() + window);
        std::vector<int32_t> kept_positions;
        std::vector<float> kept_scores;
        for (const int32_t index : kept) {
            kept_positions.push_back(positions[i][static_cast<size_t>(index)]);
            kept_scores.push_back(head_scores[static_cast<size_t>(index)]);
        }
        store.load(layer, head, flight, head_begin[i], kept, kept_positions, kept_scores);
    }
}

void SegmentEviction::make_room_for_decoding() {
    auto& store = state_.store;
    const int32_t n_layer = state_.shape.n_layer;
    int64_t left = store.capacity_tokens() - static_cast<int64_t>(n_layer) * state_.slack;
    for (int32_t layer = 0; layer < n_layer; layer++) left -= store.length(layer);
    // What the prompt left free is shared equally; where it filled even the slack, that comes back at the first
    // eviction.
    const int64_t share = left >= 0 ? left / n_layer : -((-left + n_layer - 1) / n_layer);

    std::vector<int32_t> capacities;
    for (int32_t layer = 0; layer < n_layer; layer++) {
        auto& report = state_.layers[static_cast<size_t>(layer)];
        report.budget = store.length(layer) + share;
        capacities.push_back(static_cast<int32_t>(report.budget) + state_.slack);
    }
    store.arrange(capacities);
}

Result<void> evict_decoded(GraphRunner& runner, SequenceState& state, int32_t layer) {
    auto& store = state.store;
    const auto& h = state.hparams();
    const auto n_keep = static_cast<int32_t>(state.layers[static_cast<size_t>(layer)].budget);
    const int32_t n_total = store.length(layer);
    const int32_t window = std::min({state.options.window, n_keep, n_total});
    const int32_t n_keys = n_total - window;

    std::optional<AttentionStats> stats;
    const auto n_queries = static_cast<size_t>(state.ring.n_filled);
    const AccountedBytes held(state.accountant, MemoryUse::compute, scoring_bytes(h, n_total, n_queries));
    if (state.scorer->reads_attention) {
        WindowInput input{.queries = state.ring.layers[static_cast<size_t>(layer)],
                          .visible = std::vector<int32_t>(n_queries),
                          .k = store.buffer().k(),
                          .head_begin = {},
                          .n_total = n_total,
                          .n_keys = n_keys};
        // The row before `next` holds the newest query, which sees everything.
        for (int32_t age = 0; age < state.ring.n_filled; age++) {
            const int32_t row = (state.ring.next - 1 - age + 2 * state.options.window) % state.options.window;
            input.visible[static_cast<size_t>(row)] = n_total - age;
        }
        for (const Run& run : store.runs(layer)) input.head_begin.push_back(run.begin);
        auto analysed = analyze_window(runner, h, input, Dispersion::skip);
        if (!analysed) return std::unexpected(analysed.error());
        stats = std::move(*analysed);
    }
    std::vector<int32_t> positions;
    for (int32_t head = 0; head < h.n_head_kv; head++) {
        const auto all = store.positions(layer, head);
        positions.insert(positions.end(), all.begin(), all.begin() + n_keys);
    }
    const auto scores = score_layer(state, layer, n_keys, positions, stats ? &*stats : nullptr);
    for (int32_t head = 0; head < h.n_head_kv; head++) {
        const auto to = store.scores(layer, head);
        std::copy_n(scores.begin() + static_cast<ptrdiff_t>(head) * n_keys, n_keys, to.begin());
        std::fill(to.begin() + n_keys, to.end(), kAlways);
    }
    shrink(store, layer, n_keep);
    return {};
}

}  // namespace cake
