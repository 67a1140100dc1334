#include "engine/eviction.hpp"

#include <algorithm>
#include <cassert>
#include <limits>
#include <numeric>
#include <optional>
#include <utility>

#include "engine/analysis.hpp"
#include "method/allocator.hpp"
#include "method/preference.hpp"
#include "method/selection.hpp"

namespace cake {

namespace {

std::vector<int32_t> range(int32_t begin, int32_t end) {
    std::vector<int32_t> numbers(static_cast<size_t>(end - begin));
    std::iota(numbers.begin(), numbers.end(), begin);
    return numbers;
}

/// Shrinks a layer to the `n_keep` tokens with the highest scores in each KV head. If the allocator budgets heads
/// separately, `n_keep` is the mean over the heads.
void shrink(SequenceParts& state, int32_t layer, int32_t n_keep) {
    auto& store = state.cache.sliced;
    if (store.tokens_held(layer) <= n_keep) return;
    std::vector<std::span<const float>> scores;
    for (int32_t head = 0; head < state.config.layout.sliced.n_head_kv; head++)
        scores.push_back(std::as_const(store).scores(layer, head));
    const auto kept = select_heads(scores, n_keep, state.config.options.window, state.config.policy.allocator->heads);
    state.progress.n_evicted_slots += store.n_held(layer);
    for (size_t head = 0; head < kept.size(); head++) store.keep(layer, static_cast<int32_t>(head), kept[head]);
    state.progress.n_evicted_slots -= store.n_held(layer);
}

/// Returns the allocator's weight for `layer`, which has the index `index` among the sliced layers, and updates the
/// layer's report. `stats` is null if nothing reads the statistics.
double weigh(SequenceParts& state, int32_t layer, size_t index, const AttentionStats* stats) {
    double preferred = 0;
    auto& report = state.report.layers[static_cast<size_t>(layer)];
    report = {};
    if (stats != nullptr && (state.config.policy.allocator->reads_attention || state.config.options.analyse)) {
        preferred = preference(stats->dispersion, stats->shift, state.config.options.tau1, state.config.options.tau2);
        report = {.dispersion = stats->dispersion, .shift = stats->shift, .preference = preferred};
    }
    return state.config.policy.allocator->weight(static_cast<int32_t>(index), state.config.layout.sliced.n_layer,
                                                 preferred);
}

/// Number of tokens to divide among all sliced layers: the capacity of the store without the windows and the slack of
/// decoding.
int64_t tokens_to_slice(const SequenceParts& state) {
    return state.cache.sliced.capacity_tokens() -
           int64_t{state.config.layout.sliced.n_layer} * (state.cache.plan.slack + state.config.options.window);
}

}  // namespace

SegmentEviction::SegmentEviction(SequenceParts& state, int64_t n_new, int64_t n_after)
    : state_(state), n_after_(n_after) {
    int64_t n_slots = int64_t{state.config.layout.sliced.n_layer} * state.config.layout.sliced.n_head_kv * n_new;
    for (const int32_t layer : state.cache.sliced.layers()) n_slots += state.cache.sliced.n_held(layer);
    fits_ = n_slots <= state.cache.sliced.buffer().n_slots();
}

int64_t SegmentEviction::total_tokens() const {
    const auto& store = state_.cache.sliced;
    const int64_t window = state_.config.options.window;
    // Later layers still hold their tokens of earlier segments, including those in the slack of decoding.
    int64_t room = store.capacity_tokens() - static_cast<int64_t>(n_joined_ + 1) * window;
    for (const int32_t later : store.layers().subspan(n_joined_ + 1)) room -= store.tokens_held(later);
    return std::max<int64_t>(std::min(room, tokens_to_slice(state_)), 0);
}

/// Divides the budget among the layers up to `layer`. Returns their shares, not counting the windows.
std::span<const int32_t> SegmentEviction::slice(int32_t layer, int64_t n_keys, const AttentionStats* stats) {
    const double weight = weigh(state_, layer, n_joined_, stats);
    const auto budgets = cascade_.join(weight, static_cast<int32_t>(n_keys), total_tokens());
    state_.report.stages.emplace_back(budgets.begin(), budgets.end());
    return budgets;
}

void SegmentEviction::move_in(int32_t layer, const LayerKeys& keys, std::span<const std::vector<int32_t>> kept,
                              std::span<const std::vector<float>> scores) {
    auto& store = state_.cache.sliced;
    const auto n_head_kv = static_cast<size_t>(state_.config.layout.sliced.n_head_kv);
    std::vector<int32_t> capacities;
    for (const int32_t l : store.layers()) {
        for (size_t head = 0; head < n_head_kv; head++) {
            capacities.push_back(l == layer ? static_cast<int32_t>(kept[head].size()) : store.runs(l)[head].length);
        }
    }
    store.arrange(capacities);
    for (size_t i = 0; i < n_head_kv; i++) {
        const auto head = static_cast<int32_t>(i);
        store.load(layer, head, keys.buffer, keys.slots[i].begin, kept[i]);
        const auto pick = [&](std::span<const int32_t> indices, const auto& from, const auto& to) {
            std::ranges::transform(indices, to.begin(),
                                   [&](int32_t index) { return from[static_cast<size_t>(index)]; });
        };
        pick(kept[i], keys.positions[i], store.positions(layer, head));
        pick(kept[i], scores[i], store.scores(layer, head));
        pick(kept[i], keys.sums[i], store.sums(layer, head));
    }
}

Result<void> SegmentEviction::join(int32_t layer, const LayerKeys& keys) {
    int64_t n_slots = 0;
    for (const auto& head : keys.slots) n_slots += head.length;
    if (fits_) {
        std::vector<std::vector<int32_t>> kept;
        std::vector<std::vector<float>> scores;
        for (const auto& head : keys.slots) {
            scores.emplace_back(static_cast<size_t>(head.length), std::numeric_limits<float>::infinity());
            kept.push_back(range(0, static_cast<int32_t>(head.length)));
        }
        move_in(layer, keys, kept, scores);
        n_joined_++;
        return {};
    }
    const AccountedBytes held(state_.accountant, MemoryUse::compute, scoring_bytes(state_, n_slots));
    const auto budgets = slice(layer, n_slots / state_.config.layout.sliced.n_head_kv - keys.window, keys.stats);
    const auto earlier = state_.cache.sliced.layers().first(n_joined_);
    for (size_t i = 0; i < earlier.size(); i++) shrink(state_, earlier[i], budgets[i] + state_.config.options.window);
    const auto scores = score_layer(state_, layer, keys);
    if (!scores) return std::unexpected(scores.error());
    const std::vector<std::span<const float>> views(scores->begin(), scores->end());
    const int32_t n_keep = budgets.back() + keys.window;
    move_in(layer, keys,
            select_heads(views, n_keep, state_.config.options.window, state_.config.policy.allocator->heads), *scores);
    state_.progress.n_evicted_slots += n_slots - state_.cache.sliced.n_held(layer);
    state_.progress.n_settled = n_after_;
    n_joined_++;
    return {};
}

void make_room_for_decoding(SequenceParts& state) {
    auto& store = state.cache.sliced;
    const auto layers = store.layers();
    const int64_t n_runs = std::ssize(layers) * state.config.layout.sliced.n_head_kv;
    int64_t left = store.buffer().n_slots() - n_runs * state.cache.plan.slack;
    for (const int32_t layer : layers) left -= store.n_held(layer);
    // All runs get an equal share of the slots that the prompt left free. If the prompt filled part of the slack, the
    // share is negative, and the first eviction frees the slack again.
    const int64_t share = left >= 0 ? left / n_runs : -((-left + n_runs - 1) / n_runs);

    std::vector<int32_t> capacities;
    for (const int32_t layer : layers) {
        state.report.layers[static_cast<size_t>(layer)].budget = store.tokens_held(layer) + share;
        for (const Run& run : store.runs(layer))
            capacities.push_back(run.length + static_cast<int32_t>(share) + state.cache.plan.slack);
    }
    store.arrange(capacities);
}

void keep_window(SequenceParts& state, int32_t layer, const LayerKeys& keys) {
    auto& windows = state.cache.sliding;
    for (size_t i = 0; i < keys.slots.size(); i++) {
        const auto head = static_cast<int32_t>(i);
        const auto length = static_cast<int32_t>(keys.slots[i].length);
        const int32_t first = std::max(length - state.config.hparams().n_swa, 0);
        windows.keep(layer, head, {});
        windows.load(layer, head, keys.buffer, keys.slots[i].begin, range(first, length));
        std::ranges::copy(keys.positions[i].subspan(static_cast<size_t>(first)),
                          windows.positions(layer, head).begin());
        std::ranges::fill(windows.scores(layer, head), 0.0F);
        std::ranges::fill(windows.sums(layer, head), 0.0F);
    }
}

void slide_window(SequenceParts& state, int32_t layer) {
    for (int32_t head = 0; head < state.config.layout.sliced.n_head_kv; head++) {
        const Run run = state.cache.sliding.runs(layer)[static_cast<size_t>(head)];
        if (run.length < run.capacity) return;  // the runs of all heads have the same length
        state.cache.sliding.keep(layer, head,
                                 range(std::max(run.length - state.config.hparams().n_swa + 1, 0), run.length));
    }
}

Result<void> add_decoded_attention(GraphRunner& runner, SequenceParts& state, int32_t layer) {
    auto& unread = state.progress.n_unread[static_cast<size_t>(layer)];
    if (!state.config.sums_attention() || unread == 0) return {};
    AttentionInput input{.queries = state.cache.queries.layer(layer),
                         .window = newest_queries(state.cache.queries, unread),
                         .k = state.cache.sliced.buffer().k(),
                         .heads = held_slots(state.cache.sliced, layer),
                         .sinks = state.config.sinks(layer)};
    std::vector<std::span<float>> sums;
    for (int32_t head = 0; head < state.config.layout.sliced.n_head_kv; head++)
        sums.push_back(state.cache.sliced.sums(layer, head));
    auto done = add_attention(runner, *state.config.engine, input, sums);
    if (!done) return done;
    unread = 0;
    state.progress.n_settled = state.progress.n_tokens;
    return {};
}

namespace {

/// Scores the tokens of a layer in the store with the queries in the ring. The last `window` tokens get a score of
/// infinity, so they always stay. Returns the statistics if `reads_window`.
Result<std::optional<AttentionStats>> score_decoded(GraphRunner& runner, SequenceParts& state, int32_t layer,
                                                    int32_t window, bool reads_window) {
    auto& store = state.cache.sliced;
    const int32_t n_head_kv = state.config.layout.sliced.n_head_kv;
    if (auto added = add_decoded_attention(runner, state, layer); !added) return std::unexpected(added.error());

    LayerKeys keys{.buffer = store.buffer(), .slots = held_slots(store, layer), .positions = {}, .sums = {}};
    const auto shortest = std::ranges::min(keys.slots, {}, &HeadSlots::length).length;
    keys.window = static_cast<int32_t>(std::min<int64_t>(window, shortest));
    for (int32_t head = 0; head < n_head_kv; head++) {
        keys.positions.push_back(store.positions(layer, head));
        keys.sums.push_back(store.sums(layer, head));
    }
    const AccountedBytes held(state.accountant, MemoryUse::compute, scoring_bytes(state, store.n_held(layer)));
    std::optional<AttentionStats> stats;
    if (reads_window) {
        auto analysed = analyse_window(runner, state, layer, keys);
        if (!analysed) return std::unexpected(analysed.error());
        stats = std::move(*analysed);
        keys.stats = &*stats;
    }
    const auto scores = score_layer(state, layer, keys);
    if (!scores) return std::unexpected(scores.error());
    for (int32_t head = 0; head < n_head_kv; head++)
        std::ranges::copy((*scores)[static_cast<size_t>(head)], store.scores(layer, head).begin());
    return stats;
}

}  // namespace

bool holds_whole_text(const SequenceParts& state) {
    const auto& store = state.cache.sliced;
    return std::ranges::all_of(store.layers(), [&](int32_t layer) {
        return store.n_held(layer) >= state.progress.n_tokens * store.shape().n_head_kv;
    });
}

Result<void> slice_decoded(GraphRunner& runner, SequenceParts& state) {
    const int32_t window = state.config.options.window;
    std::vector<double> weights;
    std::vector<int32_t> caps;
    const auto layers = state.cache.sliced.layers();
    for (const int32_t layer : layers) {
        const auto stats = score_decoded(runner, state, layer, window, state.config.reads_window());
        if (!stats) return std::unexpected(stats.error());
        weights.push_back(weigh(state, layer, weights.size(), *stats ? &**stats : nullptr));
        caps.push_back(static_cast<int32_t>(state.cache.sliced.tokens_held(layer)) - window);
    }
    const auto budgets = water_fill(tokens_to_slice(state), weights, caps);
    for (size_t i = 0; i < layers.size(); i++) shrink(state, layers[i], budgets[i] + window);
    state.progress.n_settled = state.progress.n_tokens;
    make_room_for_decoding(state);
    return {};
}

Result<void> evict_decoded(GraphRunner& runner, SequenceParts& state, int32_t layer) {
    assert(state.config.evicts() && "a store that keeps everything has room, or the token is refused");
    auto& store = state.cache.sliced;
    const auto n_keep = static_cast<int32_t>(state.report.layers[static_cast<size_t>(layer)].budget);
    const int32_t window = std::min(state.config.options.window, n_keep);
    if (auto scored = score_decoded(runner, state, layer, window, state.config.policy.scorer->reads.window); !scored)
        return std::unexpected(scored.error());
    shrink(state, layer, n_keep);
    state.progress.n_settled = state.progress.n_tokens;
    if (state.config.policy.allocator->heads == HeadSplit::adaptive) {
        std::vector<int32_t> capacities;
        for (const Run& run : store.runs(layer)) capacities.push_back(run.length + state.cache.plan.slack);
        store.arrange_layer(layer, capacities);
    }
    return {};
}

}  // namespace cake
