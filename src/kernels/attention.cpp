#include "kernels/attention.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "kernels/targets.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/simd-inl.h"

#ifndef CAKE_KERNELS_ATTENTION_ONCE
#define CAKE_KERNELS_ATTENTION_ONCE
namespace cake {

/// Scratch memory of a thread. The sizes are those for the widest vectors and float32 products, which suffice for every
/// target.
struct Scratch {
    float* queries;  // [dim_k, rows]
    float* keys;     // [dim_k, kBlock]
    float* values;   // [dim_v, kBlock]
    float* logits;   // [kBlock, kWidest]
    float* weights;  // [kBlock, kWidest]
    float* result;   // [dim_v, rows]
    float* largest;  // [rows] running maximum of the logits, to the base 2
    float* sum;      // [rows] running sum of the weights, relative to the largest
    float* decay;    // [kWidest] factors of the results so far

    /// Lays out the arrays from `base` and returns the number of floats. With a null base, it only counts.
    size_t lay_out(const AttentionProblem& problem, int64_t n_rows, float* base) {
        Layout layout{.base = base};
        const size_t dim_k = widest(problem.dim_k);
        const size_t dim_v = widest(problem.dim_v);
        const size_t rows = widest(static_cast<size_t>(n_rows));
        layout.place(queries, dim_k * rows);
        layout.place(keys, dim_k * kBlock);
        layout.place(values, dim_v * kBlock);
        layout.place(logits, kBlock * kWidest);
        layout.place(weights, kBlock * kWidest);
        layout.place(result, dim_v * rows);
        layout.place(largest, rows);
        layout.place(sum, rows);
        layout.place(decay, kWidest);
        return layout.n_floats;
    }
};

}  // namespace cake
#endif

HWY_BEFORE_NAMESPACE();
namespace cake::HWY_NAMESPACE {

/// One task. Its rows are the query heads of the group, token by token, over a range of slots.
template <class P>
class TaskRun {
    using T = typename P::T;

  public:
    TaskRun(const Attention::Shape& shape, const AttentionData& data, const Attention::Task& task, float* scratch)
        : problem_(shape.problem),
          data_(data),
          task_(task),
          head_(problem_.heads[static_cast<size_t>(task.head)]),
          n_group_(problem_.n_head / static_cast<int32_t>(problem_.heads.size())),
          n_rows_(static_cast<size_t>(task.query_end - task.query_begin) * static_cast<size_t>(n_group_)),
          dim_k_(padded(static_cast<size_t>(problem_.dim_k))),
          dim_v_(padded(static_cast<size_t>(problem_.dim_v))) {
        scratch_.lay_out(problem_, shape.n_rows, scratch);
    }

    void run() {
        begin();
        const int64_t last = std::min(task_.slot_end, slots_seen(n_rows_ - 1));
        // With few rows, memory bandwidth is the limit. Small blocks keep memory busy all the time.
        const auto most = static_cast<int64_t>(n_rows_ > kRows ? kBlock : kBlock / 4);
        for (int64_t block = std::max(task_.slot_begin, first_seen(0)); block < last; block += most) {
            const auto n = static_cast<size_t>(std::min(most, last - block));
            pack_keys<P>(data_.k, head_.begin + block, n, as<T>(scratch_.keys));
            pack_values<P>(data_.v, head_.begin + block, n, as<T>(scratch_.values));
            for (size_t row = 0; row < n_rows_; row += kRows) add_block(row, std::min(kRows, n_rows_ - row), block, n);
        }
    }

    /// Writes the result of a task that is the only one of its group.
    void write() const {
        for (size_t row = 0; row < n_rows_; row++)
            write_row(row, scratch_.result + row * dim_v_, scratch_.largest[row], scratch_.sum[row]);
    }

    /// Stores the result for join(): [dim_v + 2, n_rows].
    void leave(float* partial) const {
        const auto dim = static_cast<size_t>(problem_.dim_v);
        for (size_t row = 0; row < n_rows_; row++, partial += dim + 2) {
            std::copy_n(scratch_.result + row * dim_v_, dim, partial);
            partial[dim] = scratch_.largest[row];
            partial[dim + 1] = scratch_.sum[row];
        }
    }

    /// Joins the results of all tasks of the group and writes the final result.
    void join(const float* partials, size_t n_partials, size_t stride) const {
        const auto dim = static_cast<size_t>(problem_.dim_v);
        for (size_t row = 0; row < n_rows_; row++) {
            const float* const first = partials + row * (dim + 2);
            float largest = kNothing;
            for (size_t i = 0; i < n_partials; i++) largest = std::max(largest, first[i * stride + dim]);
            float* const result = scratch_.result;
            std::fill_n(result, dim, 0.0F);
            float sum = 0;
            for (size_t i = 0; i < n_partials; i++) {
                const float* const part = first + i * stride;
                if (!(part[dim] > kNothing)) continue;
                const float factor = std::exp2(part[dim] - largest);
                sum += factor * part[dim + 1];
                for (size_t d = 0; d < dim; d++) result[d] += factor * part[d];
            }
            write_row(row, result, largest, sum);
        }
    }

  private:
    template <typename To>
    static To* as(float* place) {
        return reinterpret_cast<To*>(place);
    }

    size_t query_head(size_t row) const {
        return static_cast<size_t>(task_.head) * static_cast<size_t>(n_group_) + row % static_cast<size_t>(n_group_);
    }
    int64_t query(size_t row) const {
        return task_.query_begin + static_cast<int64_t>(row / static_cast<size_t>(n_group_));
    }
    int64_t slots_seen(size_t row) const { return head_.length - (problem_.n_queries - 1 - query(row)); }
    int64_t first_seen(size_t row) const {
        return problem_.window > 0 ? std::max<int64_t>(0, slots_seen(row) - problem_.window) : 0;
    }

    void begin() {
        const float scale = query_scale(problem_.scale, problem_.softcap);
        for (size_t row = 0; row < n_rows_; row++) {
            const float* query_row = data_.queries.data + query_head(row) * data_.queries.head_stride +
                                     static_cast<size_t>(query(row)) * data_.queries.stride;
            pack_query<P>(query_row, static_cast<size_t>(problem_.dim_k), scale,
                          as<T>(scratch_.queries) + row * dim_k_);
        }
        std::fill_n(scratch_.result, n_rows_ * dim_v_, 0.0F);
        std::fill_n(scratch_.largest, n_rows_, kNothing);
        std::fill_n(scratch_.sum, n_rows_, 0.0F);
    }

    /// Adds the packed slots [block, block + n) to `n_rows` rows from `row`.
    void add_block(size_t row, size_t n_rows, int64_t block, size_t n) {
        if (slots_seen(row + n_rows - 1) <= block || first_seen(row) >= block + static_cast<int64_t>(n)) return;
        const size_t width = padded(n);
        for (size_t column = 0; column < width; column += kPanel) {
            multiply_rows<P>(n_rows, as<T>(scratch_.queries) + row * dim_k_, dim_k_,
                             as<T>(scratch_.keys) + column * dim_k_, dim_k_ / P::kStep, scratch_.logits + column,
                             kBlock, nullptr);
        }
        for (size_t r = 0; r < n_rows; r++) weigh(row + r, r, block, n);
        const size_t n_steps = (n + P::kStep - 1) / P::kStep;
        for (size_t d = 0; d < dim_v_; d += kPanel) {
            multiply_rows<P>(n_rows, as<T>(scratch_.weights), kBlock, as<T>(scratch_.values) + d * n_steps * P::kStep,
                             n_steps, scratch_.result + row * dim_v_ + d, dim_v_, scratch_.decay);
        }
    }

    /// Turns the logits of a row into weights, updates its maximum and sum, and sets the decay of its result so far.
    void weigh(size_t row, size_t r, int64_t block, size_t n) {
        const F32 f;
        float* const logits = scratch_.logits + r * kBlock;
        T* const weights = as<T>(scratch_.weights) + r * kBlock;
        const size_t width = padded(n);
        if (problem_.softcap > 0) cap(logits, width, problem_.softcap);
        const auto within = [&](int64_t slot) {
            return static_cast<size_t>(std::clamp<int64_t>(slot - block, 0, static_cast<int64_t>(n)));
        };
        const size_t from = within(first_seen(row));
        const size_t to = within(slots_seen(row));
        if (from > 0) std::fill(logits, logits + from, kNothing);
        if (to < width) std::fill(logits + to, logits + width, kNothing);

        const float before = scratch_.largest[row];
        const float largest = std::max(before, largest_of(logits, width));
        // If the row has not seen any slot yet, all logits are minus infinity and any finite shift will do.
        const auto shift = hn::Set(f, largest > kNothing ? largest : 0.0F);
        auto sum0 = hn::Zero(f);
        auto sum1 = hn::Zero(f);
        for (size_t i = 0; i < width; i += kPanel) {
            const auto weight0 = exp2_of_negative(hn::Sub(hn::Load(f, logits + i), shift));
            const auto weight1 = exp2_of_negative(hn::Sub(hn::Load(f, logits + i + kLanes), shift));
            sum0 = hn::Add(sum0, weight0);
            sum1 = hn::Add(sum1, weight1);
            P::store(weight0, weight1, weights + i);
        }
        float decay = before > kNothing ? 1.0F : 0.0F;
        if (before < largest && before > kNothing) decay = std::exp2(before - largest);
        scratch_.decay[r] = decay;
        scratch_.largest[row] = largest;
        scratch_.sum[row] = scratch_.sum[row] * decay + hn::ReduceSum(f, hn::Add(sum0, sum1));
    }

    /// Divides a row of values by the sum of its weights, including the weight of an attention sink, and writes it.
    void write_row(size_t row, const float* values, float largest, float sum) const {
        float factor = 1;
        if (data_.sinks != nullptr) {
            const float logit = data_.sinks[query_head(row)] * kLog2E;
            const float most = std::max(logit, largest);
            factor = largest > kNothing ? std::exp2(largest - most) : 0.0F;
            sum = sum * factor + std::exp2(logit - most);
        }
        factor = sum > 0 ? factor / sum : 0.0F;
        float* const to = data_.result.data + query_head(row) * data_.result.head_stride +
                          static_cast<size_t>(query(row)) * data_.result.stride;
        for (int32_t d = 0; d < problem_.dim_v; d++) to[d] = values[d] * factor;
    }

    const AttentionProblem& problem_;
    const AttentionData& data_;
    const Attention::Task& task_;
    const HeadSlots& head_;
    int32_t n_group_;
    size_t n_rows_;
    size_t dim_k_;  // padded
    size_t dim_v_;
    Scratch scratch_{};
};

template <class P>
void do_task(const Attention::Shape& shape, const AttentionData& data, const Attention::Task& task, float* scratch,
             float* partials, std::atomic<size_t>* n_open) {
    TaskRun<P> run(shape, data, task, scratch);
    run.run();
    const auto& group = shape.groups[task.group];
    if (group.n_tasks == 1) return run.write();
    run.leave(partials + task.partial * shape.n_partial_floats);
    if (n_open[task.group].fetch_sub(1, std::memory_order_acq_rel) > 1) return;
    run.join(partials + shape.tasks[group.first_task].partial * shape.n_partial_floats, group.n_tasks,
             shape.n_partial_floats);
}

void attention_task(const Attention::Shape& shape, const AttentionData& data, const Attention::Task& task,
                    float* scratch, float* partials, std::atomic<size_t>* n_open) {
#if HWY_NATIVE_DOT_BF16
    if (shape.problem.products == Products::bf16)
        return do_task<HalfProducts>(shape, data, task, scratch, partials, n_open);
#endif
    do_task<SingleProducts>(shape, data, task, scratch, partials, n_open);
}

}  // namespace cake::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cake {

HWY_EXPORT(attention_task);

Attention::Attention(AttentionProblem problem, int32_t n_threads) : n_threads_(n_threads) {
    shape_.problem = std::move(problem);
    split();
}

void Attention::set_slots(std::vector<HeadSlots> heads) {
    shape_.problem.heads = std::move(heads);
    split();
}

void Attention::split() {
    constexpr int64_t kMaxRows = 384;
    const AttentionProblem& problem = shape_.problem;
    const auto n_head_kv = static_cast<int64_t>(problem.heads.size());
    const int64_t n_group = problem.n_head / n_head_kv;
    // Create enough tasks that no thread waits long for the last one: split by rows first, which costs nothing, then by
    // slots.
    const int64_t n_wanted = n_threads_ > 1 ? int64_t{4} * n_threads_ : 1;
    const int64_t by_rows = divide_up(problem.n_queries, std::max<int64_t>(1, kMaxRows / n_group));
    const int64_t most_tiles = divide_up(problem.n_queries * n_group, 96);
    const int64_t n_tiles = std::max<int64_t>(by_rows, std::min(most_tiles, divide_up(n_wanted, n_head_kv)));
    const int64_t tile = divide_up(problem.n_queries, std::min(n_tiles, problem.n_queries));
    const int64_t n_chunks = n_wanted / (n_head_kv * divide_up(problem.n_queries, tile));

    shape_.tasks.clear();
    shape_.groups.clear();
    shape_.n_partials = 0;
    for (int32_t head = 0; head < n_head_kv; head++) {
        const int64_t length = problem.heads[static_cast<size_t>(head)].length;
        const int64_t chunk = chunk_of_slots(length, n_chunks);
        for (int64_t begin = 0; begin < problem.n_queries; begin += tile) {
            Group group{.first_task = shape_.tasks.size()};
            for (int64_t slot = 0; slot < length; slot += chunk) {
                shape_.tasks.push_back({.head = head,
                                        .query_begin = begin,
                                        .query_end = std::min(begin + tile, problem.n_queries),
                                        .slot_begin = slot,
                                        .slot_end = std::min(slot + chunk, length),
                                        .group = shape_.groups.size(),
                                        .partial = shape_.n_partials + group.n_tasks});
                group.n_tasks++;
            }
            if (group.n_tasks > 1) shape_.n_partials += group.n_tasks;
            shape_.groups.push_back(group);
        }
    }
    next_task_ = 0;
    n_open_ = std::make_unique<std::atomic<size_t>[]>(shape_.groups.size());
    for (size_t i = 0; i < shape_.groups.size(); i++) n_open_[i] = shape_.groups[i].n_tasks;
    shape_.n_rows = tile * n_group;
    shape_.n_partial_floats = static_cast<size_t>(shape_.n_rows) * (static_cast<size_t>(problem.dim_v) + 2);
    shape_.n_thread_floats = Scratch{}.lay_out(problem, shape_.n_rows, nullptr);
}

size_t Attention::n_scratch() const {
    return kWidest + static_cast<size_t>(n_threads_) * shape_.n_thread_floats +
           shape_.n_partials * shape_.n_partial_floats;
}

void Attention::run(const AttentionData& data, std::span<float> scratch, int32_t thread) {
    float* const own = part_of_thread(scratch, shape_.n_thread_floats, thread);
    float* const partials = part_of_thread(scratch, shape_.n_thread_floats, n_threads_);
    const auto run_task = HWY_DYNAMIC_POINTER(attention_task);
    for (;;) {
        const size_t i = next_task_.fetch_add(1, std::memory_order_relaxed);
        if (i >= shape_.tasks.size()) return;
        run_task(shape_, data, shape_.tasks[i], own, partials, n_open_.get());
    }
}

}  // namespace cake
#endif
