#pragma once

#include <gtest/gtest.h>
#include <hwy/targets.h>

#include <cmath>
#include <cstddef>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "kernels/rows.hpp"

namespace cake::test {

/// Calls `work` once for every instruction set that the kernels are compiled for and the machine supports.
template <typename Work>
void for_each_target(Work work) {
    for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
        SCOPED_TRACE(hwy::TargetName(target));
        hwy::SetSupportedTargetsForTest(target);
        hwy::GetChosenTarget().Update(hwy::SupportedTargets());
        work();
    }
    hwy::SetSupportedTargetsForTest(0);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

/// Normally distributed random numbers. Callers must include the seed in their failure messages.
inline std::vector<float> normal(size_t n, uint64_t seed, float deviation = 1) {
    std::mt19937_64 random(seed);
    std::normal_distribution<float> distribution(0, deviation);
    std::vector<float> values(n);
    for (float& x : values) x = distribution(random);
    return values;
}

/// Rows in a cache type, together with the float values that they represent.
class CacheRows {
  public:
    CacheRows(ggml_type type, int32_t dim, const std::vector<float>& values) : type_(type), dim_(dim) {
        const auto n_rows = static_cast<int64_t>(values.size()) / dim;
        bytes_.resize(ggml_row_size(type, dim) * static_cast<size_t>(n_rows));
        ggml_quantize_chunk(type, values.data(), bytes_.data(), 0, n_rows, dim, nullptr);
        exact_.resize(values.size());
        if (type == GGML_TYPE_F32)
            exact_ = values;
        else
            ggml_get_type_traits(type)->to_float(bytes_.data(), exact_.data(), static_cast<int64_t>(values.size()));
    }
    Rows rows() const {
        return {.data = bytes_.data(), .row_bytes = ggml_row_size(type_, dim_), .type = type_, .dim = dim_};
    }
    double at(int64_t slot, int32_t d) const {
        return exact_[static_cast<size_t>(slot) * static_cast<size_t>(dim_) + static_cast<size_t>(d)];
    }

  private:
    ggml_type type_;
    int32_t dim_;
    std::vector<std::byte> bytes_;
    std::vector<float> exact_;
};

/// Runs `work(thread)` for every thread number: 0 on the calling thread, the others on new threads.
template <typename Work>
void on_threads(int32_t n_threads, Work work) {
    std::vector<std::jthread> threads;
    for (int32_t i = 1; i < n_threads; i++) threads.emplace_back([&work, i] { work(i); });
    work(0);
}

}  // namespace cake::test
