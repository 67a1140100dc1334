#include <algorithm>
#include <vector>

#include "method/pooling.hpp"
#include "method/published_scorers.hpp"

namespace cake {

namespace {

/// A query's attention output, Σ_j a_j·v_j.
std::vector<double> output_of(std::span<const float> weights, std::span<const float> values) {
    const size_t dim = values.size() / weights.size();
    std::vector<double> output(dim, 0.0);
    for (size_t j = 0; j < weights.size(); j++) {
        if (weights[j] == 0) continue;
        for (size_t d = 0; d < dim; d++) output[d] += static_cast<double>(weights[j]) * values[j * dim + d];
    }
    return output;
}

float squared_distance(std::span<const float> value, std::span<const float> output) {
    float sum = 0;
    for (size_t d = 0; d < value.size(); d++) sum += (value[d] - output[d]) * (value[d] - output[d]);
    return sum;
}

std::vector<float> pooled_drop(const ScorerInput& input, Pool pool) {
    const auto raw = input.scored().reduced;
    std::vector<float> pooled(raw.size());
    pool(raw, pooled, pool_kernel(input, 11));
    pooled.resize(input.scored().positions.size());
    return pooled;
}

}  // namespace

/// DropKV: by how much a query's output moves if the key is dropped, (a / (1 − a))²·|v − o|², summed over the queries,
/// mean of the group. 1 − a is computed as the sum of the other weights, which stays exact where a is close to 1.
void dropkv_reduce(const ScorerInput& input, const HeadAttention& attention, std::span<float> reduced) {
    constexpr double kEpsilon = 1e-6;
    const size_t n_slots = reduced.size();
    const size_t dim = attention.values.size() / n_slots;
    const auto per_head = 1.0F / static_cast<float>(input.n_group);
    for (int32_t i = 0; i < attention.n_queries; i++) {
        const auto weights = attention.weights.subspan(static_cast<size_t>(i) * n_slots, n_slots);
        const auto exact = output_of(weights, attention.values);
        const std::vector<float> output(exact.begin(), exact.end());
        double sum = 0;
        for (const float a : weights) sum += a;
        for (size_t j = 0; j < n_slots; j++) {
            if (weights[j] == 0) continue;
            const double others = std::max(sum - weights[j], 0.0) + std::max(1.0 - sum, 0.0);
            const double ratio = weights[j] / (others + kEpsilon);
            reduced[j] += static_cast<float>(ratio * ratio) * per_head *
                          squared_distance(attention.values.subspan(j * dim, dim), output);
        }
    }
}

/// Average-pooled over 11 keys, as in the authors' cache class.
std::vector<float> dropkv_score(const ScorerInput& input) {
    return pooled_drop(input, average_pool);
}

/// Max-pooled over 11 keys, as in the authors' evaluation.
std::vector<float> dropkv_max_score(const ScorerInput& input) {
    return pooled_drop(input, max_pool);
}

}  // namespace cake
