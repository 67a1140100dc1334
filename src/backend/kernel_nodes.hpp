#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "backend/attention.hpp"
#include "backend/graph.hpp"
#include "kernels/attention.hpp"
#include "kernels/output_norms.hpp"
#include "kernels/rows.hpp"
#include "kernels/window_stats.hpp"

namespace cake {

// Our kernels as nodes of a graph, which run on ggml's threads.

/// Attention of several sequences. Each is split into the same tasks as for a single sequence, so its result is
/// bit-identical. A thread that finds no task left in one sequence continues with the next.
class BatchedAttention {
  public:
    BatchedAttention(const AttentionTraits& traits, const ggml_tensor& query, std::span<const AttendedSlots> sequences,
                     int32_t n_threads);

    /// Number of queries of each sequence.
    int64_t n_queries() const { return n_queries_; }
    size_t n_scratch() const;
    /// Sets the slots of the next run. Returns false if it needs more scratch memory than the first.
    bool set_slots(std::vector<std::vector<HeadSlots>> sequences);
    /// Runs the share of thread `thread`. The node's data is the result, followed by the scratch memory of all threads.
    /// ggml may run fewer threads than configured.
    void run(ggml_tensor& node, int32_t thread);

  private:
    struct Part {
        std::unique_ptr<Attention> attention;
        Rows k;
        Rows v;
    };
    std::vector<Part> parts_;
    int64_t n_queries_;
    int32_t dim_v_;
    size_t most_scratch_ = 0;
};

/// A node with the result of attention, [head_dim_v * n_head, n], and what computes it.
struct AttentionNode {
    ggml_tensor* result;
    BatchedAttention& work;
};

/// Attention as specified for attend().
AttentionNode attention_node(Graph& graph, int32_t n_threads, const AttentionTraits& traits, ggml_tensor* query,
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
