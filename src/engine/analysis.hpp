#pragma once

#include <functional>
#include <span>
#include <vector>

#include "engine/graph.hpp"
#include "engine/scoring.hpp"
#include "engine/sequence_parts.hpp"
#include "kernels/window_stats.hpp"
#include "method/attention_stats.hpp"

namespace cake {

/// One layer's keys and queries that attend to them, tensors that no graph computes.
struct AttentionInput {
    ggml_tensor* queries = nullptr;  // f32 [head_dim_k * n_head, rows]
    std::vector<WindowQuery> window;
    ggml_tensor* k = nullptr;  // [head_dim_k, n_slots]
    std::vector<HeadSlots> heads;
    ggml_tensor* sinks = nullptr;  // f32 [n_head] or null
};

/// The Attention Analyzer: what the window says of the keys outside it, of which the KV heads have `n_keys`; the query
/// that sees all is the newest.
Result<AttentionStats> attention_stats(GraphRunner& runner, const EngineState& engine, const AttentionInput& input,
                                       std::vector<int64_t> n_keys);

/// The newest `n` queries in the ring, or all if there are fewer.
std::vector<WindowQuery> newest_queries(const QueryRing& ring, int64_t n);

/// The same of a layer's keys and the queries in the ring.
Result<AttentionStats> analyse_window(GraphRunner& runner, const SequenceParts& state, int32_t layer,
                                      const LayerKeys& keys);

/// Adds to `sums`, by KV head, what its keys get from the queries: the mean over the query heads that share it.
Result<void> add_attention(GraphRunner& runner, const EngineState& engine, const AttentionInput& input,
                           std::span<const std::span<float>> sums);

/// Takes the softmax attention of a query head: [n_keys of its KV head, n_queries].
using AttentionVisitor = std::function<void(int32_t head, std::span<const float> attention)>;

/// Computes all weights, as ggml does on any device, one query head at a time, and shows them to `visit` on the host.
Result<void> for_each_attention(GraphRunner& runner, const Hparams& hparams, const AttentionInput& input,
                                const AttentionVisitor& visit);

}  // namespace cake
