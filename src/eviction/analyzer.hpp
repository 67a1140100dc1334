#pragma once

#include <functional>
#include <span>
#include <vector>

#include "backend/attention.hpp"
#include "backend/graph.hpp"
#include "eviction/layer_keys.hpp"
#include "eviction/managed_cache.hpp"
#include "kernels/window_stats.hpp"
#include "method/attention_stats.hpp"

namespace cake {

/// The keys of one layer and the queries that attend to them, in tensors that already hold their values.
struct AttentionInput {
    ggml_tensor* queries = nullptr;  // f32 [head_dim_k * n_head, rows]
    std::vector<WindowQuery> window;
    ggml_tensor* k = nullptr;  // [head_dim_k, n_slots]
    std::vector<HeadSlots> heads;

    int32_t n_head() const { return static_cast<int32_t>(queries->ne[0] / k->ne[0]); }
    int32_t n_group() const { return n_head() / static_cast<int32_t>(heads.size()); }
};

/// Index of the query with the fewest unseen slots.
size_t newest_of(std::span<const WindowQuery> window);

/// The Attention Analyzer: computes statistics of the attention from the window's queries to the keys outside the
/// window. The query with the fewest unseen slots counts as the newest.
/// `n_keys`: [n_head_kv] number of keys outside the window.
Result<AttentionStats> attention_stats(GraphRunner& runner, const AttentionMethod& method,
                                       const AttentionTraits& traits, const AttentionInput& input,
                                       std::vector<int64_t> n_keys);

/// Returns the newest `n` queries of the ring, or all of them if it holds fewer.
std::vector<WindowQuery> newest_queries(const QueryRing& ring, int64_t n);

/// Attention statistics of a layer. Takes the window's queries from the ring.
Result<AttentionStats> analyse_window(GraphRunner& runner, const ManagedCache& managed, int32_t layer,
                                      const LayerKeys& keys);

/// Adds the attention that each key receives to `sums`: the sum over the queries, averaged over the query heads that
/// share a KV head.
/// `sums`: [n_head_kv], each [length of the head's slots].
Result<void> add_attention(GraphRunner& runner, const AttentionMethod& method, const AttentionTraits& traits,
                           const AttentionInput& input, std::span<const std::span<float>> sums);

/// Receives the softmax attention of one query head, [n_keys of its KV head, n_queries].
using AttentionVisitor = std::function<void(int32_t head, std::span<const float> attention)>;

/// Computes the complete attention weights with ggml, on any device, and passes them to `visit` one query head at a
/// time, in host memory.
Result<void> for_each_attention(GraphRunner& runner, const AttentionTraits& traits, const AttentionInput& input,
                                const AttentionVisitor& visit);

}  // namespace cake
