#pragma once

#include "eviction/analyzer.hpp"

namespace cake {

/// attention_stats() with ggml, on the device of the keys. One graph computes all heads of the layer and reduces their
/// weights there; only the statistics are read back. What is computed of as many query heads as fit into 64 MiB is
/// in memory together, or of one: some 20 bytes for each key and query of the window, and 4 for their mask.
Result<AttentionStats> stats_of_graph(GraphRunner& runner, const AttentionTraits& traits, const AttentionInput& input,
                                      const std::vector<int64_t>& n_keys);

/// Weights for a causal softmax over the slots of a KV head, [n_foreign + n_slots, queries of the window]: 0 for those
/// that a query sees, else -infinity. The first `n_foreign` columns are not slots of the head.
std::vector<float> causal_mask(std::span<const WindowQuery> window, int64_t n_foreign, int64_t n_slots);

/// Softmax weights of the query heads [first, first + n), which share a KV head: [slots, queries of the window, n].
/// `k`: the slots; `rows`: the rows of the window's queries; `mask`: causal_mask().
ggml_tensor* softmax_weights(const Graph& graph, const AttentionTraits& traits, const AttentionInput& input,
                             ggml_tensor* k, int32_t first, int32_t n, ggml_tensor* rows, ggml_tensor* mask);

}  // namespace cake
