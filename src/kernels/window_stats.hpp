#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/rows.hpp"

namespace cake {

/// One thread of a team that runs a pass together.
struct TeamMember {
    int32_t thread = 0;
    int32_t n_threads = 1;  // size of the team
};

/// A query of the window: its row in the tensor of queries, and how many of the newest slots it does not see.
struct WindowQuery {
    int64_t row = 0;
    int64_t unseen = 0;
};

struct WindowProblem {
    int32_t n_head = 0;
    int32_t dim_k = 0;
    std::vector<WindowQuery> queries;  // at least one
    size_t newest = 0;                 // index in `queries` of the last query of the text
    std::vector<HeadSlots> heads;      // [n_head_kv]
    std::vector<int64_t> n_keys;       // [n_head_kv] number of slots outside the window
    float scale = 1;                   // factor of the logits
    float softcap = 0;                 // logits x become softcap * tanh(x / softcap); 0: no cap
    /// What to compute: the statistics, or only the largest weight that a query gives to a key.
    bool largest = false;
    std::vector<float> factors{};  // [queries] of the weights, for `largest`; empty: all 1
};

struct WindowData {
    HeadVectors<const float> queries;  // [dim_k, n_head, rows]
    Rows k;
    const float* sinks = nullptr;  // [n_head] logits that take part in the softmax but have no value, or null
};

/// Statistics of the softmax attention of a window's queries to the keys outside the window: for each key and query
/// head, the mean and the variance over the queries and the attention of the newest query; for the whole layer,
/// dispersion and shift. method/attention_stats.hpp has the definitions. They are computed in two passes over the keys,
/// without a matrix of all weights: the first pass computes the softmax sum of every query, the second computes the
/// weights of one block at a time and reduces them. Both passes are split into tasks.
class WindowStats {
  public:
    /// `n_threads`: maximum number of threads that run it together.
    WindowStats(WindowProblem problem, int32_t n_threads);

    /// Floats of the sums that the first pass stores for the second, and of scratch memory for a pass, for all threads
    /// together.
    size_t n_sums() const;
    size_t n_scratch() const;
    /// Floats of the result: for each KV head, mean, variance and newest attention, each [n_keys, n_group]; or the
    /// largest weights, [n_keys, n_group].
    size_t n_result() const { return result_begin_.back(); }
    size_t result_begin(size_t head) const { return result_begin_[head]; }

    /// Run the share of a thread in the first and the second pass. All threads must finish the first before the second
    /// begins. The team may be smaller than `n_threads`; the result is the same to the bit.
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
    std::vector<Task> tasks_;           // tasks of the same head are consecutive
    std::vector<size_t> first_task_;    // [n_head_kv + 1]
    std::vector<size_t> result_begin_;  // [n_head_kv + 1]
};

}  // namespace cake
