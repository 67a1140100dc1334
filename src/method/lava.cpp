#include "method/lava.hpp"

#include <algorithm>
#include <cmath>

#include "method/pinned.hpp"
#include "method/published_scorers.hpp"

namespace cake {

float largest_norm(std::span<const float> values, size_t n) {
    const size_t dim = n > 0 ? values.size() / n : 0;
    double largest = 0;
    for (size_t j = 0; j < n; j++) {
        double sum = 0;
        for (const float x : values.subspan(j * dim, dim)) sum += std::abs(x);
        largest = std::max(largest, sum);
    }
    return static_cast<float>(largest);
}

std::vector<float> lava_score_with(const ScorerInput& input, Pool pool) {
    if (input.scored().positions.empty()) return {};
    const auto& head = input.scored();
    const size_t n_keys = head.positions.size();
    std::vector<float> scores(n_keys, 0.0F);
    std::vector<float> pooled(n_keys);
    for (size_t begin = 0; begin < head.mean.size(); begin += n_keys) {
        pool(head.mean.subspan(begin, n_keys), pooled, pool_kernel(input, 7));
        for (size_t j = 0; j < n_keys; j++) scores[j] = std::max(scores[j], pooled[j]);
    }
    const size_t dim = head.values.size() / input.n_slots();
    const float factor = largest_norm(head.values.first(n_keys * dim), n_keys);
    for (float& score : scores) score *= factor;
    return scores;
}

std::vector<float> lava_score(const ScorerInput& input) {
    return lava_score_with(input, max_pool);
}

double score_entropy(std::span<const std::span<const float>> scores) {
    const auto counts = [](float score) { return score > 0 && score < kPinnedScore; };
    double sum = 0;
    size_t n = 0;
    for (const auto head : scores) {
        n += head.size();
        for (const float score : head)
            if (counts(score)) sum += score;
    }
    if (!(sum > 0) || n < 2) return 0;
    double entropy = 0;
    for (const auto head : scores) {
        for (const float score : head) {
            if (!counts(score)) continue;
            const double p = score / sum;
            entropy -= p * std::log(p);
        }
    }
    return entropy / std::log(static_cast<double>(n));
}

}  // namespace cake
