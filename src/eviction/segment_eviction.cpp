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
    fits_ = n_slots <= managed.cache.sliced.buffer().n_slots();
}

int64_t SegmentEviction::total_tokens() const {
    const auto& store = managed_.cache.sliced;
    const int64_t window = managed_.rules.options.window;
    // Later layers still hold their tokens of earlier segments, including those in the slack of decoding.
    int64_t room = store.capacity_tokens() - static_cast<int64_t>(n_joined_ + 1) * window;
    for (const int32_t later : store.layers().subspan(n_joined_ + 1)) room -= store.tokens_held(later);
    return std::max<int64_t>(std::min(room, tokens_to_slice(managed_)), 0);
}

/// Divides the budget among the layers up to `layer`. Returns their shares, not counting the windows.
std::span<const int32_t> SegmentEviction::slice(int32_t layer, int64_t n_keys, const AttentionStats* stats) {
    const double weight = weigh(managed_, layer, n_joined_, stats);
    const auto budgets = cascade_.join(weight, static_cast<int32_t>(n_keys), total_tokens());
    managed_.report.stages.emplace_back(budgets.begin(), budgets.end());
    return budgets;
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

Result<void> SegmentEviction::join(int32_t layer, const LayerKeys& keys) {
    int64_t n_slots = 0;
    for (const auto& head : keys.slots) n_slots += head.length;
    if (fits_) {
        std::vector<std::vector<int32_t>> kept;
        std::vector<std::vector<float>> scores;
        for (const auto& head : keys.slots) {
            scores.emplace_back(static_cast<size_t>(head.length), std::numeric_limits<float>::infinity());
            auto& all = kept.emplace_back(static_cast<size_t>(head.length));
            std::iota(all.begin(), all.end(), 0);
        }
        move_in(layer, keys, kept, scores);
        n_joined_++;
        return {};
    }
    const AccountedBytes held(managed_.accountant, MemoryUse::compute, scoring_bytes(managed_.rules, n_slots));
    const auto budgets = slice(layer, n_slots / managed_.rules.layout.sliced.n_head_kv - keys.window, keys.stats);
    const auto earlier = managed_.cache.sliced.layers().first(n_joined_);
    for (size_t i = 0; i < earlier.size(); i++)
        shrink(managed_, earlier[i], budgets[i] + managed_.rules.options.window);
    const auto scores = score_layer(managed_.rules, layer, keys);
    if (!scores) return std::unexpected(scores.error());
    const std::vector<std::span<const float>> views(scores->begin(), scores->end());
    const int32_t n_keep = budgets.back() + keys.window;
    move_in(layer, keys,
            select_heads(views, n_keep, managed_.rules.options.window, managed_.rules.policy.allocator->heads),
            *scores);
    managed_.progress.n_evicted_slots += n_slots - managed_.cache.sliced.n_held(layer);
    managed_.progress.n_settled = n_after_;
    n_joined_++;
    return {};
}

}  // namespace cake
