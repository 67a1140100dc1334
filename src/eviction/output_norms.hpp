#pragma once

#include <span>
#include <vector>

#include "backend/graph.hpp"
#include "eviction/managed_cache.hpp"
#include "kernels/output_norms.hpp"

namespace cake {

/// Computes by how much each value can change a layer's output: its norm after the output projection, which is read
/// from the model file for this call alone. `v`: [head_dim_v, n_slots]; `slots`: the slots of each KV head. Returns
/// [length] for each KV head or query head.
Result<std::vector<std::vector<float>>> output_norms(GraphRunner& runner, const CacheRules& rules, int32_t layer,
                                                     ggml_tensor* v, std::span<const HeadSlots> slots, OutputNorm kind);

}  // namespace cake
