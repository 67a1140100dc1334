#include "method/expected_attention.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "method/dot.hpp"
#include "method/pinned.hpp"
#include "method/published_scorers.hpp"

namespace cake {

QueryMoments::QueryMoments(int32_t n_head, int32_t head_dim) : head_dim_(head_dim) {
    const auto dim = static_cast<size_t>(head_dim);
    heads_.assign(static_cast<size_t>(n_head),
                  {.mean = std::vector<double>(dim, 0.0), .products = std::vector<double>(dim * dim, 0.0)});
}

void QueryMoments::add(int32_t head, std::span<const float> queries) {
    const auto dim = static_cast<size_t>(head_dim_);
    const size_t n = queries.size() / dim;
    if (n == 0) return;
    std::vector<double> sum(dim, 0.0);
    for (size_t i = 0; i < queries.size(); i++) sum[i % dim] += queries[i];
    std::vector<float> mean(dim);
    for (size_t d = 0; d < dim; d++) mean[d] = static_cast<float>(sum[d] / static_cast<double>(n));
    std::vector<float> products(dim * dim, 0.0F);
    for (size_t i = 0; i < n; i++) {
        const auto query = queries.subspan(i * dim, dim);
        for (size_t row = 0; row < dim; row++)
            for (size_t column = 0; column < dim; column++)
                products[row * dim + column] += (query[row] - mean[row]) * (query[column] - mean[column]);
    }
    merge(head, static_cast<int64_t>(n), mean, products);
}

/// Chan, Golub and LeVeque: "Updating formulae and a pairwise algorithm for computing sample variances" (1979).
void QueryMoments::merge(int32_t head, int64_t n, std::span<const float> mean, std::span<const float> products) {
    auto& h = heads_[static_cast<size_t>(head)];
    const auto dim = static_cast<size_t>(head_dim_);
    const auto n_new = static_cast<double>(n);
    const auto n_old = static_cast<double>(h.n);
    const double weight = n_old * n_new / (n_old + n_new);
    std::vector<double> distance(dim);
    for (size_t d = 0; d < dim; d++) distance[d] = mean[d] - h.mean[d];
    for (size_t i = 0; i < h.products.size(); i++)
        h.products[i] += products[i] + distance[i / dim] * distance[i % dim] * weight;
    for (size_t d = 0; d < dim; d++) h.mean[d] += distance[d] * (n_new / (n_old + n_new));
    h.n += n;
}

std::vector<float> QueryMoments::mean(int32_t head) const {
    const auto& mean = heads_[static_cast<size_t>(head)].mean;
    return {mean.begin(), mean.end()};
}

std::vector<float> QueryMoments::covariance(int32_t head) const {
    const auto& h = heads_[static_cast<size_t>(head)];
    std::vector<float> result(h.products.size());
    const auto n = static_cast<double>(std::max<int64_t>(h.n, 1));
    for (size_t i = 0; i < result.size(); i++) result[i] = static_cast<float>(h.products[i] / n);
    return result;
}

std::vector<float> rotated_mean(std::span<const float> mean, std::span<const float> rotation) {
    const size_t dim = mean.size();
    std::vector<float> result(dim);
    for (size_t row = 0; row < dim; row++) {
        double sum = 0;
        for (size_t d = 0; d < dim; d++) sum += static_cast<double>(rotation[row * dim + d]) * mean[d];
        result[row] = static_cast<float>(sum);
    }
    return result;
}

std::vector<float> rotated_covariance(std::span<const float> covariance, std::span<const float> rotation) {
    // A covariance is symmetric, so rotating its rows, transposing, and rotating again gives R·Σ·Rᵀ.
    const auto dim = static_cast<size_t>(std::lround(std::sqrt(static_cast<double>(covariance.size()))));
    std::vector<float> result(covariance.begin(), covariance.end());
    for (int pass = 0; pass < 2; pass++) {
        std::vector<float> transposed(result.size());
        for (size_t row = 0; row < dim; row++) {
            const auto rotated = rotated_mean(std::span(result).subspan(row * dim, dim), rotation);
            for (size_t column = 0; column < dim; column++) transposed[column * dim + row] = rotated[column];
        }
        result = std::move(transposed);
    }
    return result;
}

namespace {

double logit(std::span<const float> key, std::span<const float> mean, std::span<const float> covariance) {
    const size_t dim = key.size();
    double first = 0;
    double second = 0;
    for (size_t row = 0; row < dim; row++) {
        first += static_cast<double>(mean[row]) * key[row];
        if (covariance.empty()) continue;
        second += static_cast<double>(key[row]) * dot(covariance.subspan(row * dim, dim), key);
    }
    const auto d = static_cast<double>(dim);
    return first / std::sqrt(d) + second / (2 * d);
}

}  // namespace

std::vector<float> expected_attention(std::span<const float> keys, std::span<const float> mean,
                                      std::span<const float> covariance, size_t head_dim, size_t n_sink) {
    const size_t n_keys = keys.size() / head_dim;
    const size_t n_group = mean.size() / head_dim;
    std::vector<float> result(n_keys, 0.0F);
    std::vector<double> weights(n_keys, 0.0);
    for (size_t head = 0; head < n_group; head++) {
        const size_t squared = head_dim * head_dim;
        const auto of_head = covariance.empty() ? covariance : covariance.subspan(head * squared, squared);
        double largest = -std::numeric_limits<double>::infinity();
        for (size_t j = n_sink; j < n_keys; j++) {
            weights[j] = logit(keys.subspan(j * head_dim, head_dim), mean.subspan(head * head_dim, head_dim), of_head);
            largest = std::max(largest, weights[j]);
        }
        double sum = 0;
        for (size_t j = n_sink; j < n_keys; j++) sum += weights[j] = std::exp(weights[j] - largest);
        for (size_t j = n_sink; j < n_keys; j++)
            result[j] += static_cast<float>(weights[j] / sum / static_cast<double>(n_group));
    }
    return result;
}

/// Expected attention, times the norm of the value. The sinks are pinned.
std::vector<float> expected_attention_score(const ScorerInput& input) {
    if (input.scored().positions.empty()) return {};
    constexpr float kEpsilon = 0.01F;
    const auto& head = input.scored();
    const size_t n_keys = head.positions.size();
    const size_t dim_k = head.keys.size() / input.n_slots();
    const size_t dim_v = head.values.size() / input.n_slots();
    const auto n_sink =
        static_cast<size_t>(std::ranges::count_if(head.positions, [](int32_t p) { return p < kSinks; }));
    auto scores = expected_attention(head.keys, head.query_mean, head.query_covariance, dim_k, n_sink);
    scores.resize(n_keys);
    for (size_t j = 0; j < n_keys; j++) {
        double squares = 0;
        for (const float x : head.values.subspan(j * dim_v, dim_v)) squares += static_cast<double>(x) * x;
        scores[j] = (scores[j] + kEpsilon) * static_cast<float>(std::sqrt(squares));
    }
    pin_sinks(head.positions, scores);
    return scores;
}

}  // namespace cake
