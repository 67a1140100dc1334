#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/rows.hpp"

namespace cake {

/// Softmax attention of the newest tokens over slots that differ in number from one KV head to the next. The last query
/// sees all of a head's slots, each one before it a slot less.
struct AttentionProblem {
    int32_t n_head = 0;
    int64_t n_queries = 0;
    int32_t dim_k = 0;
    int32_t dim_v = 0;
    std::vector<HeadSlots> heads;  // [n_head_kv]
    float scale = 1;               // of the logits
    float softcap = 0;             // logits x become softcap * tanh(x / softcap); 0: they stay
    int64_t window = 0;            // slots that a query sees, itself included; 0: all before it
    Products products = Products::f32;
};

struct AttentionData {
    HeadVectors<const float> queries;  // [dim_k, n_head, n_queries]
    Rows k;
    Rows v;
    const float* sinks = nullptr;  // [n_head] logits that take weight and give nothing, or null
    HeadVectors<float> result;     // [dim_v, n_head, n_queries]
};

/// Attention cut into tasks: query rows of a KV head, which share what is read of it, times a range of its slots. In
/// the order of FlashAttention-2 (Dao, 2023): blocks of keys in turn, a running maximum and sum for every row, and no
/// matrix of all weights.
class Attention {
  public:
    /// For up to `n_threads` that run it together.
    Attention(AttentionProblem problem, int32_t n_threads);

    /// Floats that run() works in, for all threads together.
    size_t n_scratch() const;
    /// Does the share of thread `thread`: all of a team, which may be smaller than announced, come once and with the
    /// same arguments. Tasks are cut by the number announced, so that the result is the same for every team.
    void run(const AttentionData& data, std::span<float> scratch, int32_t thread);

    struct Task {
        int32_t head = 0;  // KV head
        int64_t query_begin = 0;
        int64_t query_end = 0;
        int64_t slot_begin = 0;
        int64_t slot_end = 0;
        size_t group = 0;    // tasks that differ in their slots alone
        size_t partial = 0;  // place of its result, where the group has several
    };
    /// The results of one group's tasks are brought together by whoever finishes the last.
    struct Group {
        size_t first_task = 0;
        size_t n_tasks = 0;
    };
    struct Shape {
        AttentionProblem problem;
        std::vector<Task> tasks;
        std::vector<Group> groups;
        int64_t n_rows = 0;           // most of a task
        size_t n_thread_floats = 0;   // scratch of one thread
        size_t n_partial_floats = 0;  // of one task's result
        size_t n_partials = 0;
    };

  private:
    Shape shape_;
    int32_t n_threads_;
    std::atomic<size_t> next_task_ = 0;
    std::unique_ptr<std::atomic<size_t>[]> n_open_;  // tasks of each group that are not done
};

}  // namespace cake
