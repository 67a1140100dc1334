#include "kernels/output_norms.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "kernels/targets.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/output_norms.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/simd-inl.h"

#ifndef CAKE_KERNELS_OUTPUT_NORMS_ONCE
#define CAKE_KERNELS_OUTPUT_NORMS_ONCE
namespace cake {

/// Scratch memory of a thread, sized for the widest vectors.
struct OutputNormScratch {
    float* values;    // [dim_v, kBlock]
    float* products;  // [kBlock, kMaxRows]
    float* sums;      // [kBlock]

    size_t lay_out(const OutputNormProblem& problem, float* base) {
        constexpr size_t kMaxRows = 16;  // of a product
        Layout layout{.base = base};
        layout.place(values, widest(problem.dim_v) * kBlock);
        layout.place(products, kMaxRows * kBlock);
        layout.place(sums, kBlock);
        return layout.n_floats;
    }
};

}  // namespace cake
#endif

HWY_BEFORE_NAMESPACE();
namespace cake::HWY_NAMESPACE {

/// Adds the absolute values, or squares, of `n_rows` rows of one panel of products to its sums.
template <bool kSquared>
HWY_INLINE void add_panel(const float* products, size_t n_rows, float* sums) {
    const F32 f;
    auto sum0 = hn::Load(f, sums);
    auto sum1 = hn::Load(f, sums + kLanes);
    for (size_t r = 0; r < n_rows; r++) {
        const auto x0 = hn::Load(f, products + r * kPanel);
        const auto x1 = hn::Load(f, products + r * kPanel + kLanes);
        if constexpr (kSquared) {
            sum0 = hn::MulAdd(x0, x0, sum0);
            sum1 = hn::MulAdd(x1, x1, sum1);
        } else {
            sum0 = hn::Add(sum0, hn::Abs(x0));
            sum1 = hn::Add(sum1, hn::Abs(x1));
        }
    }
    hn::Store(sum0, f, sums);
    hn::Store(sum1, f, sums + kLanes);
}

/// Adds the norms of a block of packed values after the projection of one query head to `scratch.sums`.
template <bool kSquared>
void add_norms(const OutputNormProblem& problem, const float* output, size_t n, const OutputNormScratch& scratch) {
    using P = SingleProducts;
    const auto dim = static_cast<size_t>(problem.dim_v);
    const size_t stride = dim * static_cast<size_t>(problem.n_head);
    const auto n_embd = static_cast<size_t>(problem.n_embd);
    // A few rows of the projection at a time stay in the fastest cache while all values of the block pass by.
    constexpr size_t kRowsAtOnce = 4 * kRows;
    for (size_t begin = 0; begin < n_embd; begin += kRowsAtOnce) {
        const size_t end = std::min(begin + kRowsAtOnce, n_embd);
        for (size_t column = 0; column < n; column += kPanel) {
            const float* panel = scratch.values + column * padded(dim);
            for (size_t row = begin; row < end; row += kRows) {
                const size_t n_rows = std::min(kRows, end - row);
                multiply_rows<P>(n_rows, output + row * stride, stride, panel, dim, scratch.products, kPanel, nullptr);
                add_panel<kSquared>(scratch.products, n_rows, scratch.sums + column);
            }
        }
    }
}

/// `result`: of the task's KV head.
void output_norms_of(const OutputNormProblem& problem, const OutputNormData& data, const OutputNorms::Task& task,
                     float* result, float* memory) {
    OutputNormScratch scratch{};
    scratch.lay_out(problem, memory);
    const HeadSlots& head = problem.heads[task.head];
    const auto length = static_cast<size_t>(head.length);
    const size_t n_group = static_cast<size_t>(problem.n_head) / problem.heads.size();
    const bool l1 = problem.kind == OutputNorm::l1_of_group;
    for (int64_t begin = task.begin; begin < task.end; begin += static_cast<int64_t>(kBlock)) {
        const auto n = static_cast<size_t>(std::min<int64_t>(kBlock, task.end - begin));
        pack_keys<SingleProducts>(data.v, head.begin + begin, n, scratch.values);
        if (l1) std::fill_n(scratch.sums, kBlock, 0.0F);
        for (size_t i = 0; i < n_group; i++) {
            const float* output = data.output + (task.head * n_group + i) * static_cast<size_t>(problem.dim_v);
            if (l1) {
                add_norms<false>(problem, output, n, scratch);
                continue;
            }
            std::fill_n(scratch.sums, kBlock, 0.0F);
            add_norms<true>(problem, output, n, scratch);
            float* const to = result + i * length + begin;
            for (size_t j = 0; j < n; j++) to[j] = std::sqrt(scratch.sums[j]);
        }
        if (!l1) continue;
        for (size_t j = 0; j < n; j++)
            result[static_cast<size_t>(begin) + j] = scratch.sums[j] / static_cast<float>(n_group);
    }
}

}  // namespace cake::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cake {

HWY_EXPORT(output_norms_of);

OutputNorms::OutputNorms(OutputNormProblem problem, int32_t n_threads)
    : problem_(std::move(problem)), n_threads_(n_threads) {
    const size_t n_group = static_cast<size_t>(problem_.n_head) / problem_.heads.size();
    const size_t n_parts = problem_.kind == OutputNorm::l2_of_head ? n_group : 1;
    result_begin_.push_back(0);
    for (size_t head = 0; head < problem_.heads.size(); head++) {
        const int64_t length = problem_.heads[head].length;
        for (int64_t begin = 0; begin < length; begin += int64_t{kBlock})
            tasks_.push_back({.head = head, .begin = begin, .end = std::min(begin + int64_t{kBlock}, length)});
        result_begin_.push_back(result_begin_.back() + n_parts * static_cast<size_t>(length));
    }
}

size_t OutputNorms::n_scratch() const {
    return kWidest + static_cast<size_t>(n_threads_) * OutputNormScratch{}.lay_out(problem_, nullptr);
}

void OutputNorms::run(const OutputNormData& data, std::span<float> result, std::span<float> scratch,
                      TeamMember member) const {
    float* const own = part_of_thread(scratch, OutputNormScratch{}.lay_out(problem_, nullptr), member.thread);
    const auto run = HWY_DYNAMIC_POINTER(output_norms_of);
    for (auto i = static_cast<size_t>(member.thread); i < tasks_.size(); i += static_cast<size_t>(member.n_threads))
        run(problem_, data, tasks_[i], result.data() + result_begin_[tasks_[i].head], own);
}

}  // namespace cake
#endif
