#pragma once

#include <span>
#include <vector>

#include "backend/attention.hpp"
#include "backend/graph.hpp"

namespace cake {

/// Queries with which the model repeats a chunk of the text, in one layer, and the slots that they are compared with
/// (KVzip; docs/policies.md).
struct ReplayQueries {
    ggml_tensor* queries = nullptr;  // f32 [head_dim_k * n_head, rows]
    int64_t n_queries = 0;           // the first rows
    ggml_tensor* k = nullptr;        // [head_dim_k, n_slots]
    std::vector<HeadSlots> heads;    // [n_head_kv] the text, then the tokens of the replay up to the last query
    int64_t n_replay = 0;            // tokens of the replay among them
    int64_t chunk_end = 0;           // tokens of the text after the chunk
    int64_t n_chunk = 0;
    std::vector<float> hidden_norms;  // [n_queries] L2 norm of what enters the attention; KVzip+
};

/// Importance of the chunk's tokens by KV head, [n_chunk] each: for KVzip, and for KVzip+. Either may be empty.
struct ReplayImportance {
    std::vector<std::span<float>> of_attention;
    std::vector<std::span<float>> of_output;
};

/// Raises the importance of the chunk's tokens to the attention that they receive: a softmax over the sinks, the chunk,
/// and the replay itself, with a causal mask. `norms`: for each query head, the L2 norms of the values of the chunk's
/// tokens after the output projection, [n_chunk]; only for KVzip+.
Result<void> raise_importance(GraphRunner& runner, const AttentionMethod& method, const AttentionTraits& traits,
                              const ReplayQueries& replay, std::span<const std::span<const float>> norms,
                              const ReplayImportance& importance);

}  // namespace cake
