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

/// Drops all of a layer but what its scores in the store say.
void shrink(SequenceState& state, int32_t layer, int32_t n_keep) {
    auto& store = state.store;
    if (store.tokens_held(layer) <= n_keep) return;
    std::vector<std::span<const float>> scores;
    for (int32_t head = 0; head < state.shape.n_head_kv; head++)
        scores.push_back(std::as_const(store).scores(layer, head));
    const auto kept = select_heads(scores, n_keep, state.options.window, state.allocator->heads);
    state.n_evicted_slots += store.n_held(layer);
    for (size_t head = 0; head < kept.size(); head++) store.keep(layer, static_cast<int32_t>(head), kept[head]);
    state.n_evicted_slots -= store.n_held(layer);
}

/// The weight that the allocator slices by. Reports what the statistics say, which are null where nothing reads them.
double weigh(SequenceState& state, int32_t layer, const AttentionStats* stats) {
    double preferred = 0;
    auto& report = state.layers[static_cast<size_t>(layer)];
    report = {};
    if (stats != nullptr && (state.allocator->reads_attention || state.options.analyse)) {
        preferred = preference(stats->dispersion, stats->shift, state.options.tau1, state.options.tau2);
        report = {.dispersion = stats->dispersion, .shift = stats->shift, .preference = preferred};
    }
    return state.allocator->weight(layer, state.shape.n_layer, preferred);
}

/// What is sliced when all layers are: all that the store holds, less the windows and the slack of decoding.
int64_t tokens_to_slice(const SequenceState& state) {
    return state.store.capacity_tokens() - int64_t{state.shape.n_layer} * (state.slack + state.options.window);
}

}  // namespace

SegmentEviction::SegmentEviction(SequenceState& state, int64_t n_new, int64_t n_after)
    : state_(state), n_after_(n_after) {
    int64_t n_slots = int64_t{state.shape.n_layer} * state.shape.n_head_kv * n_new;
    for (int32_t layer = 0; layer < state.shape.n_layer; layer++) n_slots += state.store.n_held(layer);
    fits_ = n_slots <= state.store.buffer().n_slots();
}

int64_t SegmentEviction::total_tokens(int32_t layer) const {
    const int64_t n_layer = state_.shape.n_layer;
    const int64_t window = state_.options.window;
    // What later layers still hold of earlier segments, the slack of decoding included, is in the store too.
    int64_t room = state_.store.capacity_tokens() - (layer + 1) * window;
    for (int32_t later = layer + 1; later < n_layer; later++) room -= state_.store.tokens_held(later);
    return std::max<int64_t>(std::min(room, tokens_to_slice(state_)), 0);
}

/// The budgets of the layers so far, beside their windows.
std::span<const int32_t> SegmentEviction::slice(int32_t layer, int64_t n_keys, const AttentionStats* stats) {
    const double weight = weigh(state_, layer, stats);
    const auto budgets = cascade_.join(weight, static_cast<int32_t>(n_keys), total_tokens(layer));
    state_.stages.emplace_back(budgets.begin(), budgets.end());
    return budgets;
}

void SegmentEviction::move_in(int32_t layer, const LayerKeys& keys, std::span<const std::vector<int32_t>> kept,
                              std::span<const std::vector<float>> scores) {
    auto& store = state_.store;
    const auto n_head_kv = static_cast<size_t>(state_.shape.n_head_kv);
    std::vector<int32_t> capacities;
    for (int32_t l = 0; l < state_.shape.n_layer; l++) {
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
        return {};
    }
    const AccountedBytes held(state_.accountant, MemoryUse::compute, scoring_bytes(state_, n_slots));
    const auto budgets = slice(layer, n_slots / state_.shape.n_head_kv - keys.window, keys.stats);
    for (int32_t earlier = 0; earlier < layer; earlier++)
        shrink(state_, earlier, budgets[static_cast<size_t>(earlier)] + state_.options.window);
    const auto scores = score_layer(state_, layer, keys);
    if (!scores) return std::unexpected(scores.error());
    const std::vector<std::span<const float>> views(scores->begin(), scores->end());
    const int32_t n_keep = budgets.back() + keys.window;
    move_in(layer, keys, select_heads(views, n_keep, state_.options.window, state_.allocator->heads), *scores);
    state_.n_evicted_slots += n_slots - state_.store.n_held(layer);
    state_.n_tokens_settled = n_after_;
    return {};
}

void make_room_for_decoding(SequenceState& state) {
    auto& store = state.store;
    const int32_t n_layer = state.shape.n_layer;
    const int64_t n_runs = static_cast<int64_t>(n_layer) * state.shape.n_head_kv;
    int64_t left = store.buffer().n_slots() - n_runs * state.slack;
    for (int32_t layer = 0; layer < n_layer; layer++) left -= store.n_held(layer);
    // What the prompt left free is shared equally; where it filled even the slack, that comes back at the first
    // eviction.
    const int64_t share = left >= 0 ? left / n_runs : -((-left + n_runs - 1) / n_runs);

    std::vector<int32_t> capacities;
    for (int32_t layer = 0; layer < n_layer; layer++) {
        state.layers[static_cast<size_t>(layer)].budget = store.tokens_held(layer) + share;
        for (const Run& run : store.runs(layer))
            capacities.push_back(run.length + static_cast<int32_t>(share) + state.slack);
    }
    store.arrange(capacities);
}

void keep_window(SequenceState& state, int32_t layer, const LayerKeys& keys) {
    auto& windows = state.windows;
    for (size_t i = 0; i < keys.slots.size(); i++) {
        const auto head = static_cast<int32_t>(i);
        const auto length = static_cast<int32_t>(keys.slots[i].length);
        const int32_t first = std::max(length - state.hparams().n_swa, 0);
        windows.keep(layer, head, {});
        windows.load(layer, head, keys.buffer, keys.slots[i].begin, range(first, length));
        std::ranges::copy(keys.positions[i].subspan(static_cast<size_t>(first)),
                          windows.positions(layer, head).begin());
        std::ranges::fill(windows.scores(layer, head), 0.0F);
        std::ranges::fill(windows.sums(layer, head), 0.0F);
    }
}

void slide_window(SequenceState& state, int32_t layer) {
    for (int32_t head = 0; head < state.shape.n_head_kv; head++) {
        const Run run = state.windows.runs(layer)[static_cast<size_t>(head)];
        if (run.length < run.capacity) return;  // so it is with all heads
        state.windows.keep(layer, head, range(std::max(run.length - state.hparams().n_swa + 1, 0), run.length));
    }
}

Result<void> add_decoded_attention(GraphRunner& runner, SequenceState& state, int32_t layer) {
    auto& unread = state.n_unread[static_cast<size_t>(layer)];
    if (!state.sums_attention() || unread == 0) return {};
    AttentionInput input{.queries = state.ring.layers[static_cast<size_t>(layer)],
                         .window = state.ring.newest(unread),
                         .k = state.store.buffer().k(),
                         .heads = held_slots(state.store, layer),
                         .sinks = state.sinks(layer)};
    std::vector<std::span<float>> sums;
    for (int32_t head = 0; head < state.shape.n_head_kv; head++) sums.push_back(state.store.sums(layer, head));
    auto done = add_attention(runner, *state.engine, input, sums);
    if (!done) return done;
    unread = 0;
    state.n_tokens_settled = state.n_tokens;
    return {};
}

namespace {

/// Scores what a layer holds with the queries in the ring; the last `window` tokens stay in any case. Returns the
/// statistics, where anything reads them.
Result<std::optional<AttentionStats>> score_decoded(GraphRunner& runner, SequenceState& state, int32_t layer,
                                                    int32_t window, bool reads_window) {
    auto& store = state.store;
    const int32_t n_head_kv = state.shape.n_head_kv;
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

bool holds_whole_text(const SequenceState& state) {
    for (int32_t layer = 0; layer < state.shape.n_layer; layer++)
        if (state.store.n_held(layer) < state.n_tokens * state.shape.n_head_kv) return false;
    return true;
}

Result<void> slice_decoded(GraphRunner& runner, SequenceState& state) {
    const int32_t window = state.options.window;
    std::vector<double> weights;
    std::vector<int32_t> caps;
    for (int32_t layer = 0; layer < state.shape.n_layer; layer++) {
        const auto stats = score_decoded(runner, state, layer, window, state.reads_window());
        if (!stats) return std::unexpected(stats.error());
        weights.push_back(weigh(state, layer, *stats ? &**stats : nullptr));
        caps.push_back(static_cast<int32_t>(state.store.tokens_held(layer)) - window);
    }
    const auto budgets = water_fill(tokens_to_slice(state), weights, caps);
    for (int32_t layer = 0; layer < state.shape.n_layer; layer++)
        shrink(state, layer, budgets[static_cast<size_t>(layer)] + window);
    state.n_tokens_settled = state.n_tokens;
    make_room_for_decoding(state);
    return {};
}

Result<void> evict_decoded(GraphRunner& runner, SequenceState& state, int32_t layer) {
    assert(state.evicts() && "a store that keeps everything has room, or the token is refused");
    auto& store = state.store;
    const auto n_keep = static_cast<int32_t>(state.layers[static_cast<size_t>(layer)].budget);
    const int32_t window = std::min(state.options.window, n_keep);
    if (auto scored = score_decoded(runner, state, layer, window, state.scorer->reads.window); !scored)
        return std::unexpected(scored.error());
    shrink(state, layer, n_keep);
    state.n_tokens_settled = state.n_tokens;
    if (state.allocator->heads == HeadSplit::adaptive) {
        std::vector<int32_t> capacities;
        for (const Run& run : store.runs(layer)) capacities.push_back(run.length + state.slack);
        store.arrange_layer(layer, capacities);
    }
    return {};
}

}  // namespace cake
