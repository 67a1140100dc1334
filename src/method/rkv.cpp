#include "method/rkv.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "method/dot.hpp"
#include "method/pooling.hpp"
#include "method/published_scorers.hpp"

namespace cake {

namespace {

/// Replaces `x` by its softmax.
void soften(std::span<float> x) {
    const float largest = x.empty() ? 0 : std::ranges::max(x);
    double sum = 0;
    for (float& value : x) {
        value = std::exp(value - largest);
        sum += value;
    }
    for (float& value : x) value = static_cast<float>(value / sum);
}

std::vector<float> unit_vectors(std::span<const float> keys, size_t dim) {
    constexpr double kEpsilon = 1e-8;
    std::vector<float> units(keys.begin(), keys.end());
    for (size_t begin = 0; begin < units.size(); begin += dim) {
        double squares = 0;
        for (size_t d = 0; d < dim; d++) squares += static_cast<double>(keys[begin + d]) * keys[begin + d];
        const auto factor = static_cast<float>(1 / (std::sqrt(squares) + kEpsilon));
        for (size_t d = 0; d < dim; d++) units[begin + d] *= factor;
    }
    return units;
}

}  // namespace

std::vector<float> group_attention(std::span<const float> queries, std::span<const float> keys, size_t head_dim,
                                   size_t n_queries, size_t n_keys) {
    const size_t n_group = queries.size() / (head_dim * n_queries);
    const float scale = 1 / std::sqrt(static_cast<float>(head_dim));
    std::vector<float> mean(n_keys, 0.0F);
    std::vector<float> weights(n_keys);
    for (size_t i = 0; i < n_queries; i++) {
        std::ranges::fill(weights, -std::numeric_limits<float>::infinity());
        for (size_t head = 0; head < n_group; head++) {
            const auto query = queries.subspan((head * n_queries + i) * head_dim, head_dim);
            for (size_t j = 0; j < n_keys; j++)
                weights[j] = std::max(weights[j], scale * dot(query, keys.subspan(j * head_dim, head_dim)));
        }
        soften(weights);
        for (size_t j = 0; j < n_keys; j++) mean[j] += weights[j] / static_cast<float>(n_queries);
    }
    return mean;
}

Redundancy redundancy(std::span<const float> keys, size_t head_dim, float similar) {
    const size_t n = keys.size() / head_dim;
    const auto units = unit_vectors(keys, head_dim);
    Redundancy result{.scores = std::vector<float>(n, 0.0F), .last_similar = std::vector<int32_t>(n, 0)};
    std::vector<float> cosines(n);
    for (size_t i = 0; i < n; i++) {
        size_t last = 0;
        for (size_t j = 0; j < n; j++) {
            cosines[j] = i == j ? 0
                                : dot(std::span(units).subspan(i * head_dim, head_dim),
                                      std::span(units).subspan(j * head_dim, head_dim));
            if (cosines[j] > similar) last = j;
        }
        cosines[last] = 0;
        result.last_similar[i] = static_cast<int32_t>(last);
        for (size_t j = 0; j < n; j++) result.scores[j] += cosines[j] / static_cast<float>(n);
    }
    soften(result.scores);
    return result;
}

std::vector<float> rkv_scores(std::span<const float> importance, std::span<const float> redundancy, float lambda) {
    std::vector<float> scores(importance.size());
    for (size_t j = 0; j < scores.size(); j++) scores[j] = lambda * importance[j] - (1 - lambda) * redundancy[j];
    return scores;
}

/// R-KV: attention against redundancy, λ·importance − (1 − λ)·redundancy.
std::vector<float> rkv_score(const ScorerInput& input) {
    if (input.scored().positions.empty()) return {};
    if (input.scored().queries.empty()) return std::vector<float>(input.scored().positions.size(), 0.0F);
    constexpr float kLambda = 0.1F;
    constexpr float kSimilar = 0.5F;
    const auto& head = input.scored();
    const size_t n_keys = head.positions.size();
    const size_t dim = head.keys.size() / input.n_slots();
    const size_t n_queries = head.queries.size() / (dim * static_cast<size_t>(input.n_group));
    const auto attention = group_attention(head.queries, head.keys, dim, n_queries, n_keys);
    std::vector<float> importance(n_keys);
    max_pool(attention, importance, pool_kernel(input, 7));
    return rkv_scores(importance, redundancy(head.keys, dim, kSimilar).scores, kLambda);
}

}  // namespace cake
