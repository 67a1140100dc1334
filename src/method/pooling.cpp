#include "method/pooling.hpp"

#include <algorithm>
#include <cmath>

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

void fading_max_pool(std::span<const float> in, std::span<float> out, int64_t kernel) {
    constexpr float kAtTheEnd = 1.0F / 8;
    const auto fade = [&](float share) { return std::pow(kAtTheEnd, 1 / (share * static_cast<float>(kernel - 1))); };
    const float after = fade(0.75F);
    const float before = fade(0.25F);
    float passed_on = 0;
    for (size_t j = 0; j < in.size(); j++) out[j] = passed_on = std::max(in[j], passed_on * after);
    passed_on = 0;
    for (size_t j = in.size(); j-- > 0;) {
        passed_on = std::max(in[j], passed_on * before);
        out[j] = std::max(out[j], passed_on);
    }
}

}  // namespace cake
