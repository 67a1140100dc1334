#pragma once

#include <vector>

#include "backend/graph.hpp"
#include "eviction/layer_keys.hpp"
#include "eviction/managed_cache.hpp"

namespace cake {

/// Computes the scores of a layer's tokens, by KV head. Tokens of the window get the score infinity.
Result<std::vector<std::vector<float>>> score_layer(GraphRunner& runner, const ManagedCache& managed,
                                                    const Scorer& scorer, int32_t layer, const LayerKeys& keys);

/// Bytes of host memory for the statistics and scores of a layer with `n_slots` tokens, all KV heads together.
size_t scoring_bytes(const CacheRules& rules, const Scorer& scorer, int64_t n_slots);

}  // namespace cake
