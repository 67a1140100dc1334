#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "eviction/managed_cache.hpp"
#include "method/attention_stats.hpp"

namespace cake {

/// Number of tokens to divide among all sliced layers: the capacity of the store without the windows and the slack of
/// decoding.
int64_t tokens_to_slice(const ManagedCache& managed);

/// The scores of the KV heads of one or more layers.
using ScoreViews = std::vector<std::span<const float>>;
/// Those of a layer in the store.
ScoreViews stored_scores(const KvStore& store, int32_t layer);

/// Returns the allocator's weight for `layer`, which has the index `index` among the sliced layers, and updates the
/// layer's report. `stats` is null if nothing reads the statistics; `scores` are those of its tokens outside the
/// window.
double weigh(const ManagedCache& managed, int32_t layer, size_t index, const AttentionStats* stats,
             const ScoreViews& scores);

/// Returns how many tokens each of the heads keeps under an allocator with HeadSplit::model. `scores`: those of all
/// heads of the layers that compete; `total_tokens`: tokens outside the windows to divide among these layers, mean over
/// the heads.
std::vector<int32_t> divide_among_heads(const ManagedCache& managed, const ScoreViews& scores, int64_t total_tokens);

/// Shrinks a layer to the `n_keep` tokens with the highest scores in each KV head. If the allocator budgets heads
/// separately, `n_keep` is the mean over the heads.
void shrink(const ManagedCache& managed, int32_t layer, int32_t n_keep);
/// The same with a number of tokens for each KV head.
void shrink_heads(const ManagedCache& managed, int32_t layer, std::span<const int32_t> n_keep);

/// Distributes the free slots of the store equally over its runs, for decoding. Called after a prefill, or after
/// slice_decoded() has shrunk all layers. Sets the budgets of the layers.
void make_room_for_decoding(const ManagedCache& managed);

}  // namespace cake
