#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/rows.hpp"

namespace cake {

/// Softmax attention of the newest tokens over the slots of a layer, whose number may differ between KV heads. The last
/// query sees all slots of a head, and each query before it one slot fewer.
struct AttentionProblem {
    int32_t n_head = 0;
    int64_t n_queries = 0;
    int32_t dim_k = 0;
    int32_t dim_v = 0;
    std::vector<HeadSlots> heads;  // [n_head_kv]
    float scale = 1;               // factor of the logits
    float softcap = 0;             // logits x become softcap * tanh(x / softcap); 0: no cap
    int64_t window = 0;            // slots that a query sees, including its own; 0: all up to its own
    Products products = Products::f32;
};

struct AttentionData {
    HeadVectors<const float> queries;  // [dim_k, n_head, n_queries]
    Rows k;
    Rows v;
    const float* sinks = nullptr;  // [n_head] logits that take part in the softmax but have no value, or null
    HeadVectors<float> result;     // [dim_v, n_head, n_queries]
};

/// Attention, split into tasks: a range of query rows of a KV head, which share its keys and values, times a range of
/// its slots. The order is that of FlashAttention-2 (Dao, 2023): one block of keys after another, with a running
/// maximum and sum for every row, and without a matrix of all weights.
class Attention {
  public:
    /// `n_threads`: maximum number of threads that run it together.
    Attention(AttentionProblem problem, int32_t n_threads);

    /// Sets the slots of the next run: those of the problem, or of the run before, are no longer attended to.
    void set_slots(std::vector<HeadSlots> heads);
    /// Floats of scratch memory that run() needs, for all threads together.
    size_t n_scratch() const;
    /// Runs the share of thread `thread`. Each thread of a team calls this once, with the same arguments. The team may
    /// be smaller than `n_threads`: tasks are split by `n_threads`, so the result is the same for every team. Once all
    /// have run, only set_slots() makes it ready for another run.
    void run(const AttentionData& data, std::span<float> scratch, int32_t thread);

    struct Task {
        int32_t head = 0;  // KV head
        int64_t query_begin = 0;
        int64_t query_end = 0;
        int64_t slot_begin = 0;
        int64_t slot_end = 0;
        size_t group = 0;    // tasks with the same rows and different slots
        size_t partial = 0;  // index of its partial result if the group has several tasks
    };
    /// The thread that finishes the last task of a group joins the results of its tasks.
    struct Group {
        size_t first_task = 0;
        size_t n_tasks = 0;
    };
    struct Shape {
        AttentionProblem problem;
        std::vector<Task> tasks;
        std::vector<Group> groups;
        int64_t n_rows = 0;           // max rows of a task
        size_t n_thread_floats = 0;   // scratch memory of one thread
        size_t n_partial_floats = 0;  // size of one partial result
        size_t n_partials = 0;
    };

  private:
    void split();

    Shape shape_;
    int32_t n_threads_;
    std::atomic<size_t> next_task_ = 0;
    std::unique_ptr<std::atomic<size_t>[]> n_open_;  // number of unfinished tasks in each group
};

}  // namespace cake
