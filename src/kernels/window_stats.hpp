#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/rows.hpp"

namespace cake {

/// One of the threads that run something together.
struct TeamMember {
    int32_t thread = 0;
    int32_t n_threads = 1;  // of the team
};

/// A query of the window: where it lies, and how many of the newest slots it does not see.
struct WindowQuery {
    int64_t row = 0;
    int64_t unseen = 0;
};

struct WindowProblem {
    int32_t n_head = 0;
    int32_t dim_k = 0;
    std::vector<WindowQuery> queries;  // at least one
    size_t newest = 0;                 // of them, the last of the text
    std::vector<HeadSlots> heads;      // [n_head_kv]
    std::vector<int64_t> n_keys;       // [n_head_kv] how many of a head's slots are outside the window
    float scale = 1;                   // of the logits
    float softcap = 0;                 // logits x become softcap * tanh(x / softcap); 0: they stay
};

struct WindowData {
    HeadVectors<const float> queries;  // [dim_k, n_head, rows]
    Rows k;
    const float* sinks = nullptr;  // [n_head] logits that take weight and give nothing, or null
};

/// What the softmax attention of a window's queries says about the keys outside it: mean and variance over the queries
/// and the newest query's attention for each key and query head, dispersion and shift of the whole layer; the
/// definition is method/attention_stats. In two passes over the keys and without a matrix of all weights: the first
/// finds every query's sum, the second forms each block's weights and reduces them. Both are cut into tasks.
class WindowStats {
  public:
    /// For up to `n_threads` that run it together.
    WindowStats(WindowProblem problem, int32_t n_threads);

    /// Floats that the first pass leaves for the second, and that a pass works in, for all threads together.
    size_t n_sums() const;
    size_t n_scratch() const;
    /// Floats of the result: for each KV head mean, variance and newest, each [n_keys, n_group].
    size_t n_result() const { return result_begin_.back(); }
    size_t result_begin(size_t head) const { return result_begin_[head]; }

    /// The share of a thread in either pass. The second begins when all are done with the first. The team may be
    /// smaller than announced, which changes no bit of the result.
    void find_sums(const WindowData& data, std::span<float> sums, std::span<float> scratch, TeamMember member);
    void reduce(const WindowData& data, std::span<const float> sums, std::span<float> result, std::span<float> scratch,
                TeamMember member);

    double dispersion() const;
    double shift() const;

    struct Task {
        int32_t head = 0;  // KV head
        int64_t slot_begin = 0;
        int64_t slot_end = 0;
        double dispersion = 0;
        double shift = 0;
    };

  private:
    WindowProblem problem_;
    int32_t n_threads_;
    size_t n_rows_;                     // query heads of a group times queries
    std::vector<Task> tasks_;           // those of a head follow each other
    std::vector<size_t> first_task_;    // [n_head_kv + 1]
    std::vector<size_t> result_begin_;  // [n_head_kv + 1]
};

}  // namespace cake
