#include "eviction/segment_eviction.hpp"

#include <algorithm>
#include <limits>
#include <numeric>

#include "eviction/scoring.hpp"
#include "eviction/slicing.hpp"
#include "method/selection.hpp"

namespace cake {

SegmentEviction::SegmentEviction(const ManagedCache& managed, int64_t n_new, int64_t n_after)
    : managed_(managed), n_after_(n_after) {
    int64_t n_slots = int64_t{managed.rules.layout.sliced.n_layer} * managed.rules.layout.sliced.n_head_kv * n_new;
    for (const int32_t layer : managed.cache.sliced.layers()) n_slots += managed.cache.sliced.n_held(layer);
    fits_ = n_slots <= managed.cache.sliced.n_slots();
}

int64_t SegmentEviction::total_tokens() const {
    const auto& store = managed_.cache.sliced;
    const int64_t window = managed_.rules.options.window;
    // Later layers still hold their tokens of earlier segments, including those in the slack of decoding.
    int64_t room = store.capacity_tokens() - static_cast<int64_t>(n_joined_ + 1) * window;
    for (const int32_t later : store.layers().subspan(n_joined_ + 1)) room -= store.tokens_held(later);
    return std::max<int64_t>(std::min(room, tokens_to_slice(managed_)), 0);
}

/// Divides the budget among the layers up to `layer`, by the allocator's weights, and shrinks those before it. Returns
/// the tokens of `layer` that stay.
SegmentEviction::Kept SegmentEviction::slice_layers(int32_t layer, const LayerKeys& keys, const Scores& scores) {
    const int32_t window = managed_.rules.options.window;
    ScoreViews outside;
    int64_t n_keys = 0;
    for (size_t head = 0; head < scores.size(); head++) {
        outside.push_back(std::span(scores[head]).first(static_cast<size_t>(keys.n_keys(head))));
        n_keys += keys.n_keys(head);
    }
    const double weight = weigh(managed_, layer, n_joined_, keys.stats, outside);
    const auto cap = static_cast<int32_t>(n_keys / std::ssize(scores));
    const auto budgets = cascade_.join(weight, cap, total_tokens());
    managed_.report.stages.emplace_back(budgets.begin(), budgets.end());
    const auto earlier = managed_.cache.sliced.layers().first(n_joined_);
    for (size_t i = 0; i < earlier.size(); i++) shrink(managed_, earlier[i], budgets[i] + window);
    return select_heads(ScoreViews(scores.begin(), scores.end()), budgets.back() + keys.window, window,
                        managed_.rules.allocator().heads);
}

/// Gives the budget to the best tokens of all heads of the layers so far, the new one included. A token that is dropped
/// here would not have stayed after the last layer either, because later layers only add competitors.
SegmentEviction::Kept SegmentEviction::slice_model(int32_t layer, const LayerKeys& keys, const Scores& scores) {
    const auto& store = managed_.cache.sliced;
    const size_t n_head_kv = scores.size();
    const auto earlier = store.layers().first(n_joined_);
    ScoreViews all;
    for (const int32_t l : earlier) all.append_range(stored_scores(store, l));
    for (const auto& head : scores) all.emplace_back(head);
    const auto n_kept = divide_among_heads(managed_, all, total_tokens());
    weigh(managed_, layer, n_joined_, keys.stats, {});
    report_stage(n_kept);
    for (size_t i = 0; i < earlier.size(); i++)
        shrink_heads(managed_, earlier[i], std::span(n_kept).subspan(i * n_head_kv, n_head_kv));
    Kept kept;
    for (size_t head = 0; head < n_head_kv; head++)
        kept.push_back(select_top(scores[head], n_kept[n_joined_ * n_head_kv + head]));
    return kept;
}

/// Adds the mean budgets of the layers, without the window, to the report. `n_kept`: [n_head_kv, layers so far].
void SegmentEviction::report_stage(std::span<const int32_t> n_kept) {
    const auto n_head_kv = static_cast<size_t>(managed_.rules.layout.sliced.n_head_kv);
    auto& stage = managed_.report.stages.emplace_back();
    for (size_t begin = 0; begin < n_kept.size(); begin += n_head_kv) {
        const auto of_layer = n_kept.subspan(begin, n_head_kv);
        const int32_t n = std::accumulate(of_layer.begin(), of_layer.end(), 0);
        stage.push_back(n / static_cast<int32_t>(n_head_kv) - managed_.rules.options.window);
    }
}

void SegmentEviction::move_in(int32_t layer, const LayerKeys& keys, std::span<const std::vector<int32_t>> kept,
                              std::span<const std::vector<float>> scores) {
    auto& store = managed_.cache.sliced;
    const auto n_head_kv = static_cast<size_t>(managed_.rules.layout.sliced.n_head_kv);
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

void SegmentEviction::keep_all(int32_t layer, const LayerKeys& keys) {
    Kept kept;
    Scores scores;
    for (size_t i = 0; i < keys.slots.size(); i++) {
        const auto& head = keys.slots[i];
        auto& of_head = scores.emplace_back(keys.kept_scores[i].begin(), keys.kept_scores[i].end());
        of_head.resize(static_cast<size_t>(head.length), std::numeric_limits<float>::infinity());
        auto& all = kept.emplace_back(static_cast<size_t>(head.length));
        std::iota(all.begin(), all.end(), 0);
    }
    move_in(layer, keys, kept, scores);
}

Result<void> SegmentEviction::join(GraphRunner& runner, int32_t layer, const LayerKeys& keys) {
    if (fits_) {
        keep_all(layer, keys);
        n_joined_++;
        return {};
    }
    int64_t n_slots = 0;
    for (const auto& head : keys.slots) n_slots += head.length;
    const AccountedBytes held(managed_.accountant, MemoryUse::compute,
                              scoring_bytes(managed_.rules, managed_.rules.scorer(), n_slots));
    const auto scores = score_layer(runner, managed_, managed_.rules.scorer(), layer, keys);
    if (!scores) return std::unexpected(scores.error());
    const bool of_model = managed_.rules.allocator().heads.split == HeadSplit::model;
    const auto kept = of_model ? slice_model(layer, keys, *scores) : slice_layers(layer, keys, *scores);
    move_in(layer, keys, kept, *scores);
    managed_.progress.n_evicted_slots += n_slots - managed_.cache.sliced.n_held(layer);
    managed_.progress.n_settled = n_after_;
    n_joined_++;
    return {};
}

}  // namespace cake
