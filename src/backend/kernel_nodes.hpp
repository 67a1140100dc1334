#pragma once

#include <cstdint>
#include <span>

#include "backend/attention.hpp"
#include "backend/graph.hpp"
#include "kernels/output_norms.hpp"
#include "kernels/rows.hpp"
#include "kernels/window_stats.hpp"

namespace cake {

// Our kernels as nodes of a graph, which run on ggml's threads.

/// Attention as specified for attend(). [head_dim_v * n_head, n]
ggml_tensor* attention_node(Graph& graph, int32_t n_threads, const AttentionTraits& traits, ggml_tensor* query,
                            std::span<const AttendedSlots> sequences);

/// A node with attention statistics, [WindowStats::n_result()], and the object that describes their layout.
struct WindowStatsNode {
    ggml_tensor* result;
    const WindowStats& stats;
};

/// Adds the analysis of a layer's window attention to the graph; the result is an output of the graph.
/// `queries`: f32 [head_dim_k * n_head, rows]; `k`: [head_dim_k, n_slots]; `sinks`: f32 [n_head] or null.
WindowStatsNode window_stats_node(Graph& graph, int32_t n_threads, ggml_tensor* queries, ggml_tensor* k,
                                  ggml_tensor* sinks, WindowProblem problem);

/// A node with norms of projected values, [OutputNorms::n_result()], and the object that describes their layout.
struct OutputNormsNode {
    ggml_tensor* result;
    const OutputNorms& norms;
};

/// Adds the norms of values after an output projection to the graph; the result is an output of the graph.
/// `v`: [head_dim_v, n_slots]; `output`: f32 [head_dim_v * n_head, n_embd].
OutputNormsNode output_norms_node(Graph& graph, int32_t n_threads, ggml_tensor* v, ggml_tensor* output,
                                  OutputNormProblem problem);

}  // namespace cake
