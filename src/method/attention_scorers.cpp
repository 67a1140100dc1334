#include <algorithm>
#include <cassert>

#include "method/pooling.hpp"
#include "method/published_scorers.hpp"
#include "method/selection.hpp"

namespace cake {

namespace {

/// Scores each query head with `indicator`, pools along the keys, and averages over the heads of the group.
template <typename Indicator>
std::vector<float> score_group(const ScorerInput& input, Indicator indicator, Pool pool, int64_t kernel) {
    const size_t n_keys = input.scored().positions.size();
    assert(input.scored().mean.size() == n_keys * static_cast<size_t>(input.n_group));
    std::vector<float> scores(n_keys, 0.0F);
    std::vector<float> raw(n_keys);
    std::vector<float> pooled(n_keys);
    for (int32_t query_head = 0; query_head < input.n_group; query_head++) {
        const size_t begin = static_cast<size_t>(query_head) * n_keys;
        for (size_t j = 0; j < n_keys; j++) raw[j] = indicator(begin + j);
        pool(raw, pooled, kernel);
        for (size_t j = 0; j < n_keys; j++) scores[j] += pooled[j] / static_cast<float>(input.n_group);
    }
    return scores;
}

/// CAKE's eviction indicator (paper, eq. 10): mean plus gamma times variance, pooled.
std::vector<float> indicator_score(const ScorerInput& input, Pool pool, int64_t kernel) {
    const auto& head = input.scored();
    return score_group(input, [&](size_t i) { return head.mean[i] + input.gamma * head.variance[i]; }, pool, kernel);
}

}  // namespace

/// CAKE as published: averaged over 5 keys.
std::vector<float> cake_score(const ScorerInput& input) {
    return indicator_score(input, average_pool, pool_kernel(input, 5));
}

/// Ours. A question attends to where its answer begins; what follows is kept because a score reaches the tokens after
/// it.
std::vector<float> cake_plus_score(const ScorerInput& input) {
    return indicator_score(input, fading_max_pool, pool_kernel(input, 25));
}

/// SnapKV: mean attention of the window, max-pooled over 7 keys.
std::vector<float> snapkv_score(const ScorerInput& input) {
    const auto mean = input.scored().mean;
    return score_group(input, [&](size_t i) { return mean[i]; }, max_pool, pool_kernel(input, 7));
}

/// SnapKV as in kvpress, which CriticalKV builds on: average-pooled over 5 keys.
std::vector<float> smoothed_attention_score(const ScorerInput& input) {
    const auto mean = input.scored().mean;
    return score_group(input, [&](size_t i) { return mean[i]; }, average_pool, pool_kernel(input, 5));
}

/// TOVA, layer-wise: attention of the last query, summed over all heads of the layer, so that all heads keep the same
/// tokens. Heads that no longer hold the same tokens are matched by position.
std::vector<float> tova_score(const ScorerInput& input) {
    const auto positions = input.scored().positions;
    std::vector<float> scores(positions.size(), 0.0F);
    for (const auto& head : input.heads) {
        const size_t n_keys = head.positions.size();
        size_t at = 0;
        for (size_t j = 0; j < positions.size(); j++) {
            while (at < n_keys && head.positions[at] < positions[j]) at++;
            if (at == n_keys || head.positions[at] != positions[j]) continue;
            for (size_t i = at; i < head.last.size(); i += n_keys) scores[j] += head.last[i];
        }
    }
    return scores;
}

/// H2O: half of the budget goes to the heavy hitters by cumulative attention, half to the most recent tokens, including
/// the window. A larger budget keeps all tokens that a smaller one keeps, so the score of a token is the smallest
/// budget that keeps it, negated.
std::vector<float> h2o_score(const ScorerInput& input) {
    const auto& head = input.scored();
    const size_t n_keys = head.positions.size();
    const auto heavy = ranked(head.sum);

    constexpr float kOpen = 0;
    std::vector<float> scores(n_keys, kOpen);
    size_t next_heavy = 0;
    size_t n_recent = 0;
    for (size_t budget = 1; budget <= n_keys; budget++) {
        // Half of all kept tokens are recent ones, beginning with the window.
        const auto window = static_cast<size_t>(input.window);
        const size_t half = (budget + window) / 2;
        size_t chosen = n_keys;
        if (half > window + n_recent) {
            const size_t recent = n_keys - ++n_recent;
            if (scores[recent] == kOpen) chosen = recent;
        }
        while (chosen == n_keys) {
            const auto candidate = static_cast<size_t>(heavy[next_heavy++]);
            if (scores[candidate] == kOpen) chosen = candidate;
        }
        scores[chosen] = -static_cast<float>(budget);
    }
    return scores;
}

}  // namespace cake
