#include "method/attention_stats.hpp"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>

namespace cake {

AttentionStats::AttentionStats(int32_t n_head, std::span<const int64_t> n_keys)
    : n_group(n_head / static_cast<int32_t>(n_keys.size())) {
    for (const int64_t n : n_keys) {
        const auto size = static_cast<size_t>(n) * static_cast<size_t>(n_group);
        heads.push_back({.n_keys = n,
                         .mean = std::vector<float>(size),
                         .variance = std::vector<float>(size),
                         .last = std::vector<float>(size)});
    }
}

namespace {

double entropy(std::span<const float> weights) {
    double sum = 0;
    for (const float a : weights) sum -= a > 0 ? static_cast<double>(a) * std::log(a) : 0.0;
    return sum;
}

}  // namespace

void add_head(AttentionStats& stats, int32_t head, std::span<const float> attention, int32_t n_queries,
              int32_t newest) {
    auto& group = stats.heads[static_cast<size_t>(head / stats.n_group)];
    const auto n_keys = static_cast<size_t>(group.n_keys);
    const size_t n_total = attention.size() / static_cast<size_t>(n_queries);
    assert(n_total >= n_keys && newest >= 0 && newest < n_queries);

    const size_t begin = static_cast<size_t>(head % stats.n_group) * n_keys;
    const std::span mean = std::span(group.mean).subspan(begin, n_keys);
    const std::span variance = std::span(group.variance).subspan(begin, n_keys);
    const auto row = [&](int32_t query) { return attention.subspan(static_cast<size_t>(query) * n_total, n_keys); };
    std::ranges::copy(row(newest), group.last.begin() + static_cast<ptrdiff_t>(begin));

    // Row by row, so that memory is read in order. The second pass computes the variance around the mean, so that small
    // variances are not lost to rounding.
    std::ranges::fill(mean, 0.0F);
    for (int32_t i = 0; i < n_queries; i++) {
        const auto weights = row(i);
        for (size_t j = 0; j < n_keys; j++) mean[j] += weights[j];
        stats.dispersion += entropy(weights);
    }
    for (float& m : mean) m /= static_cast<float>(n_queries);

    std::ranges::fill(variance, 0.0F);
    for (int32_t i = 0; i < n_queries; i++) {
        const auto weights = row(i);
        for (size_t j = 0; j < n_keys; j++) {
            const float difference = weights[j] - mean[j];
            variance[j] += difference * difference;
        }
    }
    const float degrees = std::max(1.0F, static_cast<float>(n_queries - 1));
    for (float& v : variance) {
        v /= degrees;
        stats.shift += v;
    }
}

std::vector<float> window_attention(std::span<const float> q, std::span<const float> k, int32_t head_dim,
                                    int32_t window) {
    const auto dim = static_cast<size_t>(head_dim);
    const size_t n_total = k.size() / dim;
    const auto n_queries = static_cast<size_t>(window);
    assert(q.size() == dim * n_queries && n_queries <= n_total);

    std::vector<float> attention(n_total * n_queries, 0.0F);
    const double scale = 1.0 / std::sqrt(static_cast<double>(head_dim));
    std::vector<double> logits(n_total);
    for (size_t i = 0; i < n_queries; i++) {
        const size_t n_visible = n_total - n_queries + i + 1;
        double largest = -std::numeric_limits<double>::infinity();
        for (size_t j = 0; j < n_visible; j++) {
            double dot = 0;
            for (size_t d = 0; d < dim; d++) dot += static_cast<double>(q[i * dim + d]) * k[j * dim + d];
            logits[j] = dot * scale;
            largest = std::max(largest, logits[j]);
        }
        double sum = 0;
        for (size_t j = 0; j < n_visible; j++) sum += logits[j] = std::exp(logits[j] - largest);
        for (size_t j = 0; j < n_visible; j++) attention[i * n_total + j] = static_cast<float>(logits[j] / sum);
    }
    return attention;
}

}  // namespace cake
