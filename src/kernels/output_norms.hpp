#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/rows.hpp"
#include "kernels/window_stats.hpp"

namespace cake {

/// The norm of values after the output projection of an attention layer: the mean of the L1 norms over the query heads
/// that share a KV head, one number for each KV head; or the L2 norm for each query head.
enum class OutputNorm : uint8_t { l1_of_group, l2_of_head };

struct OutputNormProblem {
    int32_t n_head = 0;
    int32_t n_embd = 0;
    int32_t dim_v = 0;
    std::vector<HeadSlots> heads;  // [n_head_kv] the values
    OutputNorm kind = OutputNorm::l1_of_group;
};

struct OutputNormData {
    Rows v;
    const float* output = nullptr;  // [dim_v * n_head, n_embd] the projection; one row for each element of the result
};

/// Norms of projected values, a block of values at a time. The projected values themselves are never stored.
class OutputNorms {
  public:
    /// `n_threads`: maximum number of threads that run it together.
    OutputNorms(OutputNormProblem problem, int32_t n_threads);

    /// Floats of the result, for each KV head: [length, n_group] for l2_of_head, [length] for l1_of_group.
    size_t n_result() const { return result_begin_.back(); }
    size_t result_begin(size_t head) const { return result_begin_[head]; }
    /// Floats of scratch memory, for all threads together.
    size_t n_scratch() const;
    /// Runs the share of a thread.
    void run(const OutputNormData& data, std::span<float> result, std::span<float> scratch, TeamMember member) const;

    struct Task {
        size_t head = 0;    // KV head
        int64_t begin = 0;  // first slot, within the head
        int64_t end = 0;
    };

  private:
    OutputNormProblem problem_;
    int32_t n_threads_;
    std::vector<Task> tasks_;
    std::vector<size_t> result_begin_;  // [n_head_kv + 1]
};

}  // namespace cake
