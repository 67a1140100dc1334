#include "method/criticalkv.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "method/published_scorers.hpp"
#include "method/selection.hpp"

namespace cake {

namespace {

constexpr float kEpsilon = 1e-4F;

size_t size_of(int32_t n) {
    return static_cast<size_t>(n);
}

std::vector<float> products(std::span<const float> scores, std::span<const float> norms) {
    // Scores such as keydiff's are negative: only their distance from the smallest one can be weighted.
    float smallest = 0;
    for (const float score : scores)
        if (std::isfinite(score)) smallest = std::min(smallest, score);
    std::vector<float> result(scores.size());
    for (size_t j = 0; j < scores.size(); j++)
        result[j] = std::isfinite(scores[j]) ? (scores[j] - smallest + kEpsilon) * norms[j] : scores[j];
    return result;
}

/// The window's tokens are part of the budget that is halved, so they take part in the order.
std::vector<float> in_critical_order(const ScorerInput& input, std::vector<float> scores) {
    const size_t n_keys = scores.size();
    scores.resize(input.n_slots(), INFINITY);
    std::vector<float> norms(input.scored().output_norms.begin(), input.scored().output_norms.end());
    norms.resize(scores.size(), 0.0F);
    auto result = reassigned(scores, critical_order(scores, norms, input.floor));
    result.resize(n_keys);
    return result;
}

}  // namespace

std::vector<int32_t> critical_order(std::span<const float> scores, std::span<const float> norms, int32_t n_safe) {
    const auto by_score = ranked(scores);
    const auto by_product = ranked(products(scores, norms));
    std::vector<bool> taken(scores.size(), false);
    std::vector<int32_t> order;
    size_t n_first = 0;
    size_t next = 0;
    for (size_t budget = 1; budget <= scores.size(); budget++) {
        const size_t n_before = std::exchange(n_first, std::max(budget / 2, std::min(budget, size_of(n_safe))));
        // A key that has become one of the best by score may have been taken for its product; then there is room for
        // another one of those.
        int32_t key = n_first > n_before ? by_score[n_first - 1] : -1;
        if (key < 0 || taken[size_of(key)]) {
            while (taken[size_of(by_product[next])]) next++;
            key = by_product[next];
        }
        taken[size_of(key)] = true;
        order.push_back(key);
    }
    return order;
}

std::vector<float> reassigned(std::span<const float> scores, std::span<const int32_t> order) {
    std::vector<float> result(scores.size());
    const auto by_score = ranked(scores);
    for (size_t i = 0; i < order.size(); i++) result[size_of(order[i])] = scores[size_of(by_score[i])];
    return result;
}

std::vector<float> criticalkv_score(const ScorerInput& input) {
    return in_critical_order(input, smoothed_attention_score(input));
}

Scorer critical_scorer(const Scorer& base) {
    Scorer scorer = base;
    scorer.name = "criticalkv+" + base.name;
    scorer.summary = base.summary + ", half of the budget also by the norm of the value's output";
    scorer.reads.output_norms = true;
    scorer.score = [score = base.score](const ScorerInput& input) { return in_critical_order(input, score(input)); };
    return scorer;
}

}  // namespace cake
