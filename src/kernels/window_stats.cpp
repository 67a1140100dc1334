#include "kernels/window_stats.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <utility>

#include "kernels/targets.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/window_stats.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/simd-inl.h"

#ifndef CAKE_KERNELS_WINDOW_STATS_ONCE
#define CAKE_KERNELS_WINDOW_STATS_ONCE
namespace cake {

/// Scratch memory of a thread, sized for the widest vectors.
struct WindowScratch {
    float* queries;  // [dim_k, rows]
    float* keys;     // [dim_k, kBlock]
    float* weights;  // [kBlock, queries]
    float* shifts;   // [rows] log2 of the weight is the base-2 logit minus this

    size_t lay_out(const WindowProblem& problem, size_t n_rows, float* base) {
        Layout layout{.base = base};
        const size_t dim_k = widest(problem.dim_k);
        layout.place(queries, dim_k * widest(n_rows));
        layout.place(keys, dim_k * kBlock);
        layout.place(weights, kBlock * widest(problem.queries.size()));
        layout.place(shifts, widest(n_rows));
        return layout.n_floats;
    }
};

}  // namespace cake
#endif

HWY_BEFORE_NAMESPACE();
namespace cake::HWY_NAMESPACE {

/// One task of a pass. Its rows are the queries of all query heads of a KV head, head by head, over a range of slots.
class WindowRun {
    using P = SingleProducts;  // bfloat16 would lose small variances

  public:
    WindowRun(const WindowProblem& problem, const WindowData& data, const WindowStats::Task& task, float* scratch)
        : problem_(problem),
          data_(data),
          task_(task),
          head_(problem.heads[static_cast<size_t>(task.head)]),
          n_group_(static_cast<size_t>(problem.n_head) / problem.heads.size()),
          n_queries_(problem.queries.size()),
          n_rows_(n_group_ * n_queries_),
          dim_k_(padded(static_cast<size_t>(problem.dim_k))) {
        scratch_.lay_out(problem, n_rows_, scratch);
        const float scale = query_scale(problem.scale, problem.softcap);
        for (size_t row = 0; row < n_rows_; row++) {
            const float* query = data.queries.data + query_head(row) * data.queries.head_stride +
                                 static_cast<size_t>(query_of(row).row) * data.queries.stride;
            pack_query<P>(query, static_cast<size_t>(problem.dim_k), scale, scratch_.queries + row * dim_k_);
        }
    }

    /// Computes the largest logit and the sum of the weights of every row over the task's slots: [2, n_rows].
    void find_sums(float* sums) {
        for (size_t row = 0; row < n_rows_; row++) {
            sums[2 * row] = kNothing;
            sums[2 * row + 1] = 0;
        }
        for_each_block([&](int64_t block, size_t n) HWY_ATTR {
            for (size_t head = 0; head < n_group_; head++) {
                multiply_head(head, n);
                for (size_t i = 0; i < n_queries_; i++) add_to_sum(head * n_queries_ + i, i, block, n, sums);
            }
        });
    }

    /// Computes the weights from the sums of the first pass and reduces them. `sums`: results of the first pass for all
    /// `n_tasks` tasks of the head, [2, n_rows, n_tasks]. `result`: the head's part of the result.
    void reduce(const float* sums, size_t n_tasks, float* result, double& dispersion, double& shift) {
        for (size_t row = 0; row < n_rows_; row++) scratch_.shifts[row] = shift_of(row, sums + 2 * row, n_tasks);
        const auto n_keys = static_cast<size_t>(problem_.n_keys[static_cast<size_t>(task_.head)]);
        dispersion = shift = 0;
        for_each_block([&](int64_t block, size_t n) HWY_ATTR {
            // Keys of the window itself take part only in the softmax sums.
            const auto n_counted = static_cast<size_t>(
                std::clamp<int64_t>(static_cast<int64_t>(n_keys) - block, 0, static_cast<int64_t>(n)));
            if (n_counted == 0) return;
            for (size_t head = 0; head < n_group_; head++) {
                multiply_head(head, n);
                for (size_t i = 0; i < n_queries_; i++)
                    dispersion += weigh(head * n_queries_ + i, i, block, n_counted, padded(n));
                float* const to = result + head * n_keys + block;
                if (problem_.largest) {
                    find_largest(n_counted, to);
                    continue;
                }
                shift += reduce_block(n_counted, to, to + n_group_ * n_keys);
                std::copy_n(weights(problem_.newest), n_counted, to + 2 * n_group_ * n_keys);
            }
        });
    }

  private:
    size_t query_head(size_t row) const { return static_cast<size_t>(task_.head) * n_group_ + row / n_queries_; }
    const WindowQuery& query_of(size_t row) const { return problem_.queries[row % n_queries_]; }
    float* weights(size_t query) const { return scratch_.weights + query * kBlock; }

    template <typename Work>
    void for_each_block(Work work) {
        for (int64_t block = task_.slot_begin; block < task_.slot_end; block += static_cast<int64_t>(kBlock)) {
            const auto n = static_cast<size_t>(std::min<int64_t>(kBlock, task_.slot_end - block));
            pack_keys<P>(data_.k, head_.begin + block, n, scratch_.keys);
            work(block, n);
        }
    }

    /// Computes the logits of the rows of one query head, to the base 2.
    void multiply_head(size_t head, size_t n) {
        for (size_t i = 0; i < n_queries_; i += kRows) {
            const size_t n_rows = std::min(kRows, n_queries_ - i);
            for (size_t column = 0; column < padded(n); column += kPanel) {
                multiply_rows<P>(n_rows, scratch_.queries + (head * n_queries_ + i) * dim_k_, dim_k_,
                                 scratch_.keys + column * dim_k_, dim_k_, weights(i) + column, kBlock, nullptr);
            }
            if (problem_.softcap > 0)
                for (size_t r = 0; r < n_rows; r++) cap(weights(i + r), padded(n), problem_.softcap);
        }
    }

    /// Number of slots of the block that the row sees.
    size_t n_seen(size_t row, int64_t block, size_t n) const {
        return static_cast<size_t>(
            std::clamp<int64_t>(head_.length - query_of(row).unseen - block, 0, static_cast<int64_t>(n)));
    }

    void add_to_sum(size_t row, size_t query, int64_t block, size_t n, float* sums) const {
        const F32 f;
        float* const logits = weights(query);
        const size_t width = padded(n);
        std::fill(logits + n_seen(row, block, n), logits + width, kNothing);
        const float before = sums[2 * row];
        const float largest = std::max(before, largest_of(logits, width));
        if (!(largest > kNothing)) return;
        const auto shift = hn::Set(f, largest);
        auto sum = hn::Zero(f);
        for (size_t i = 0; i < width; i += kLanes)
            sum = hn::Add(sum, exp2_of_negative(hn::Sub(hn::Load(f, logits + i), shift)));
        const float decay = before > kNothing ? std::exp2(before - largest) : 0.0F;
        sums[2 * row] = largest;
        sums[2 * row + 1] = sums[2 * row + 1] * decay + hn::ReduceSum(f, sum);
    }

    /// log2 of the softmax sum of a row. Infinity, which makes all weights 0, if the row sees no slot.
    float shift_of(size_t row, const float* sums, size_t n_tasks) const {
        const float sink = data_.sinks == nullptr ? kNothing : data_.sinks[query_head(row)] * kLog2E;
        float largest = sink;
        for (size_t i = 0; i < n_tasks; i++) largest = std::max(largest, sums[2 * n_rows_ * i]);
        if (!(largest > kNothing)) return std::numeric_limits<float>::infinity();
        float sum = std::exp2(sink - largest);
        for (size_t i = 0; i < n_tasks; i++)
            sum += sums[2 * n_rows_ * i + 1] * std::exp2(sums[2 * n_rows_ * i] - largest);
        return largest + std::log2(sum);
    }

    /// Turns the logits of a row into weights, with 0 from `n_counted` on. Returns -sum A ln A.
    double weigh(size_t row, size_t query, int64_t block, size_t n_counted, size_t width) const {
        const F32 f;
        float* const logits = weights(query);
        std::fill(logits + n_seen(row, block, n_counted), logits + width, kNothing);
        const auto shift = hn::Set(f, scratch_.shifts[row]);
        auto sum = hn::Zero(f);
        for (size_t i = 0; i < width; i += kLanes) {
            // Clamped to 0 because rounding may push the weight of a single key above 1. Weights below 2^-127 become 0;
            // so does 0 ln 0.
            const auto exponent = hn::Clamp(hn::Sub(hn::Load(f, logits + i), shift), hn::Set(f, -127.0F), hn::Zero(f));
            const auto weight = exp2_of_negative(exponent);
            sum = hn::NegMulAdd(weight, exponent, sum);
            hn::Store(weight, f, logits + i);
        }
        return static_cast<double>(hn::ReduceSum(f, sum)) * std::numbers::ln2;
    }

    /// Finds the largest weight of `n` keys over the queries.
    void find_largest(size_t n, float* largest) const {
        const F32 f;
        for (size_t j = 0; j < n; j += kLanes) {
            auto most = hn::Zero(f);
            for (size_t i = 0; i < n_queries_; i++) {
                const auto weight = hn::Load(f, weights(i) + j);
                most =
                    hn::Max(most, problem_.factors.empty() ? weight : hn::Mul(weight, hn::Set(f, problem_.factors[i])));
            }
            hn::StoreN(most, f, largest + j, n - j);
        }
    }

    /// Computes mean and unbiased variance over the queries for `n` keys. Returns the sum of the variances. The
    /// variance is computed around the mean in a second pass over the block, so that small ones are not lost to
    /// rounding. That of a single query is 0.
    double reduce_block(size_t n, float* mean, float* variance) const {
        const F32 f;
        const auto count = static_cast<float>(n_queries_);
        const auto per_query = hn::Set(f, 1.0F / count);
        const auto per_degree = hn::Set(f, 1.0F / std::max(1.0F, count - 1));
        auto sum = hn::Zero(f);
        for (size_t j = 0; j < n; j += kLanes) {
            auto total = hn::Zero(f);
            for (size_t i = 0; i < n_queries_; i++) total = hn::Add(total, hn::Load(f, weights(i) + j));
            const auto middle = hn::Mul(total, per_query);
            auto squares = hn::Zero(f);
            for (size_t i = 0; i < n_queries_; i++) {
                const auto difference = hn::Sub(hn::Load(f, weights(i) + j), middle);
                squares = hn::MulAdd(difference, difference, squares);
            }
            squares = hn::Mul(squares, per_degree);
            sum = hn::Add(sum, squares);
            hn::StoreN(middle, f, mean + j, n - j);
            hn::StoreN(squares, f, variance + j, n - j);
        }
        return hn::ReduceSum(f, sum);
    }

    const WindowProblem& problem_;
    const WindowData& data_;
    const WindowStats::Task& task_;
    const HeadSlots& head_;
    size_t n_group_;
    size_t n_queries_;
    size_t n_rows_;
    size_t dim_k_;  // padded
    WindowScratch scratch_{};
};

void window_sums(const WindowProblem& problem, const WindowData& data, const WindowStats::Task& task, float* sums,
                 float* scratch) {
    WindowRun(problem, data, task, scratch).find_sums(sums);
}

void window_reduction(const WindowProblem& problem, const WindowData& data, WindowStats::Task& task, const float* sums,
                      size_t n_tasks, float* result, float* scratch) {
    WindowRun(problem, data, task, scratch).reduce(sums, n_tasks, result, task.dispersion, task.shift);
}

}  // namespace cake::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cake {

HWY_EXPORT(window_sums);
HWY_EXPORT(window_reduction);

WindowStats::WindowStats(WindowProblem problem, int32_t n_threads)
    : problem_(std::move(problem)),
      n_threads_(n_threads),
      n_rows_(static_cast<size_t>(problem_.n_head) / problem_.heads.size() * problem_.queries.size()) {
    const auto n_head_kv = static_cast<int32_t>(problem_.heads.size());
    const int64_t n_wanted = n_threads > 1 ? int64_t{4} * n_threads : 1;
    result_begin_.push_back(0);
    for (int32_t head = 0; head < n_head_kv; head++) {
        first_task_.push_back(tasks_.size());
        const int64_t length = problem_.heads[static_cast<size_t>(head)].length;
        const int64_t chunk = chunk_of_slots(length, divide_up(n_wanted, n_head_kv));
        for (int64_t slot = 0; slot < length; slot += chunk)
            tasks_.push_back({.head = head, .slot_begin = slot, .slot_end = std::min(slot + chunk, length)});
        const auto n_keys = static_cast<size_t>(problem_.n_keys[static_cast<size_t>(head)]);
        const size_t n_group = static_cast<size_t>(problem_.n_head) / problem_.heads.size();
        result_begin_.push_back(result_begin_.back() + (problem_.largest ? 1 : 3) * n_group * n_keys);
    }
    first_task_.push_back(tasks_.size());
}

size_t WindowStats::n_sums() const {
    return 2 * n_rows_ * tasks_.size();
}

size_t WindowStats::n_scratch() const {
    return kWidest + static_cast<size_t>(n_threads_) * WindowScratch{}.lay_out(problem_, n_rows_, nullptr);
}

void WindowStats::find_sums(const WindowData& data, std::span<float> sums, std::span<float> scratch,
                            TeamMember member) {
    float* const own = part_of_thread(scratch, WindowScratch{}.lay_out(problem_, n_rows_, nullptr), member.thread);
    const auto run = HWY_DYNAMIC_POINTER(window_sums);
    for (auto i = static_cast<size_t>(member.thread); i < tasks_.size(); i += static_cast<size_t>(member.n_threads))
        run(problem_, data, tasks_[i], sums.data() + 2 * n_rows_ * i, own);
}

void WindowStats::reduce(const WindowData& data, std::span<const float> sums, std::span<float> result,
                         std::span<float> scratch, TeamMember member) {
    float* const own = part_of_thread(scratch, WindowScratch{}.lay_out(problem_, n_rows_, nullptr), member.thread);
    const auto run = HWY_DYNAMIC_POINTER(window_reduction);
    for (auto i = static_cast<size_t>(member.thread); i < tasks_.size(); i += static_cast<size_t>(member.n_threads)) {
        const auto head = static_cast<size_t>(tasks_[i].head);
        const size_t first = first_task_[head];
        run(problem_, data, tasks_[i], sums.data() + 2 * n_rows_ * first, first_task_[head + 1] - first,
            result.data() + result_begin_[head], own);
    }
}

double WindowStats::dispersion() const {
    double sum = 0;
    for (const auto& task : tasks_) sum += task.dispersion;
    return sum;
}

double WindowStats::shift() const {
    double sum = 0;
    for (const auto& task : tasks_) sum += task.shift;
    return sum;
}

}  // namespace cake
#endif
