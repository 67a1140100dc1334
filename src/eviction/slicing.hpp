#pragma once

#include <cstdint>

#include "eviction/managed_cache.hpp"
#include "method/attention_stats.hpp"

namespace cake {

/// Number of tokens to divide among all sliced layers: the capacity of the store without the windows and the slack of
/// decoding.
int64_t tokens_to_slice(const ManagedCache& managed);

/// Returns the allocator's weight for `layer`, which has the index `index` among the sliced layers, and updates the
/// layer's report. `stats` is null if nothing reads the statistics.
double weigh(const ManagedCache& managed, int32_t layer, size_t index, const AttentionStats* stats);

/// Shrinks a layer to the `n_keep` tokens with the highest scores in each KV head. If the allocator budgets heads
/// separately, `n_keep` is the mean over the heads.
void shrink(const ManagedCache& managed, int32_t layer, int32_t n_keep);

/// Distributes the free slots of the store equally over its runs, for decoding. Called after a prefill, or after
/// slice_decoded() has shrunk all layers. Sets the budgets of the layers.
void make_room_for_decoding(const ManagedCache& managed);

}  // namespace cake
