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

void max_pool(std::span<const float> in, std::span<float> out, int64_t kernel) {
    const auto n = static_cast<int64_t>(in.size());
    for (int64_t j = 0; j < n; j++) {
        float largest = in[static_cast<size_t>(j)];
        for (int64_t i = std::max<int64_t>(0, j - kernel / 2); i <= std::min(n - 1, j + kernel / 2); i++)
            largest = std::max(largest, in[static_cast<size_t>(i)]);
        out[static_cast<size_t>(j)] = largest;
    }
}

}  // namespace cake
