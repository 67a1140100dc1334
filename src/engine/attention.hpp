#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "cache/kv_store.hpp"
#include "engine/graph.hpp"
#include "model/architecture.hpp"
#include "model/layer_graph.hpp"

namespace cake {

/// The slots of one KV head of a layer, oldest token first.
struct HeadSlots {
    int64_t begin = 0;
    int64_t length = 0;
};

/// Those of a layer in the store.
std::vector<HeadSlots> held_slots(const KvStore& store, int32_t layer);

/// Attention of `query`, [head_dim_k, n_head, n], over slots that may differ in number from one KV head to the next.
/// `masks`: none, one for all KV heads where they have equally many slots, or one for each. [head_dim_v * n_head, n]
ggml_tensor* attend(const Graph& graph, const LayerGraph& nodes, ggml_tensor* query, const KvBuffer& buffer,
                    std::span<const HeadSlots> heads, std::span<ggml_tensor* const> masks);

/// Whether every KV head has equally many slots, as far apart as the next.
bool is_even(std::span<const HeadSlots> heads);

/// One layer's keys and queries that attend to them, tensors that no graph computes.
struct AttentionInput {
    const ggml_tensor* queries = nullptr;  // f32 [head_dim_k * n_head, rows]
    int64_t first_query = 0;               // row of the first
    std::vector<int64_t> unseen;           // for each query, how many of the newest keys it does not see
    const ggml_tensor* k = nullptr;        // [head_dim_k, n_slots]
    std::span<const HeadSlots> heads;
};

/// Takes the softmax attention of a query head: [n_keys of its KV head, n_queries].
using AttentionVisitor = std::function<void(int32_t head, std::span<const float> attention)>;

/// Computes attention weights on the device, one query head at a time, and shows them to `visit` on the host.
Result<void> for_each_attention(GraphRunner& runner, const Hparams& hparams, const AttentionInput& input,
                                const AttentionVisitor& visit);

}  // namespace cake
