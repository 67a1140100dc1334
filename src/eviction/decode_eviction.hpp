#pragma once

#include "backend/graph.hpp"
#include "eviction/managed_cache.hpp"

namespace cake {

/// True if no token of the text has been dropped, so that the budgets are still uniform.
bool holds_whole_text(const ManagedCache& managed);
/// Called during decoding when the layers of a text that fitted are full. Scores all layers with the queries in the
/// ring and divides the budget among them as after a prompt.
Result<void> slice_decoded(GraphRunner& runner, const ManagedCache& managed);
/// Called during decoding when a layer is full. Scores it again with the queries in the ring and shrinks it to its
/// budget.
Result<void> evict_decoded(GraphRunner& runner, const ManagedCache& managed, int32_t layer);

/// Adds the attention of those decoded queries in the ring to the layer's cumulative attention that it does not include
/// yet.
Result<void> add_decoded_attention(GraphRunner& runner, const ManagedCache& managed, int32_t layer);

}  // namespace cake
