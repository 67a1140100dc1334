#include "method/kvzip.hpp"

#include <algorithm>
#include <cmath>

#include "method/pinned.hpp"
#include "method/published_scorers.hpp"

namespace cake {

void raise_to_replay(std::span<float> importance, std::span<const float> weights, size_t n_queries, size_t first,
                     std::span<const float> norms, std::span<const float> hidden_norms) {
    const size_t n_slots = weights.size() / n_queries;
    for (size_t i = 0; i < n_queries; i++) {
        const auto row = weights.subspan(i * n_slots + first, importance.size());
        const float factor = hidden_norms.empty() ? 1.0F : 1 / hidden_norms[i];
        for (size_t j = 0; j < importance.size(); j++) {
            const float norm = norms.empty() ? 1.0F : norms[j];
            importance[j] = std::max(importance[j], row[j] * norm * factor);
        }
    }
}

std::vector<float> output_norms(std::span<const float> values, std::span<const float> output, size_t head_dim,
                                bool l1) {
    const size_t n_embd = output.size() / head_dim;
    std::vector<float> norms(values.size() / head_dim);
    for (size_t j = 0; j < norms.size(); j++) {
        double sum = 0;
        for (size_t e = 0; e < n_embd; e++) {
            double x = 0;
            for (size_t d = 0; d < head_dim; d++)
                x += static_cast<double>(output[e * head_dim + d]) * values[j * head_dim + d];
            sum += l1 ? std::abs(x) : x * x;
        }
        norms[j] = static_cast<float>(l1 ? sum : std::sqrt(sum));
    }
    return norms;
}

/// KVzip and KVzip+: what a replay of the text attends to. The sinks are pinned.
std::vector<float> kvzip_score(const ScorerInput& input) {
    const auto& head = input.scored();
    std::vector<float> scores(head.replay.begin(), head.replay.end());
    pin_sinks(head.positions, scores);
    return scores;
}

}  // namespace cake
