#include "method/pooling.hpp"

#include <algorithm>

namespace cake {

void average_pool(std::span<const float> in, std::span<float> out, int64_t kernel) {
    const auto n = static_cast<int64_t>(in.size());
    for (int64_t j = 0; j < n; j++) {
        float sum = 0;
        for (int64_t i = std::max<int64_t>(0, j - kernel / 2); i <= std::min(n - 1, j + kernel / 2); i++)
            sum += in[static_cast<size_t>(i)];
        out[static_cast<size_t>(j)] = sum / static_cast<float>(kernel);
    }
}

namespace {

/// Maximum over each token, `before` tokens before it and `after` tokens after it.
void max_over(std::span<const float> in, std::span<float> out, int64_t before, int64_t after) {
    const auto n = static_cast<int64_t>(in.size());
    for (int64_t j = 0; j < n; j++) {
        float largest = in[static_cast<size_t>(j)];
        for (int64_t i = std::max<int64_t>(0, j - before); i <= std::min(n - 1, j + after); i++)
            largest = std::max(largest, in[static_cast<size_t>(i)]);
        out[static_cast<size_t>(j)] = largest;
    }
}

}  // namespace

void max_pool(std::span<const float> in, std::span<float> out, int64_t kernel) {
    max_over(in, out, kernel / 2, kernel / 2);
}

void trailing_max_pool(std::span<const float> in, std::span<float> out, int64_t kernel) {
    constexpr int64_t kAfter = 3;
    const int64_t after = std::min(kAfter, kernel / 2);
    max_over(in, out, kernel - 1 - after, after);
}

}  // namespace cake
