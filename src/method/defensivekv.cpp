#include "method/defensivekv.hpp"

#include <algorithm>
#include <numeric>

#include "method/pinned.hpp"
#include "method/pooling.hpp"
#include "method/published_scorers.hpp"
#include "method/selection.hpp"

namespace cake {

namespace {

/// Mean over the group of the window's attention to each key.
std::vector<float> group_mean(const HeadKeys& head) {
    const size_t n_keys = head.positions.size();
    std::vector<float> mean(n_keys, 0.0F);
    if (n_keys == 0) return mean;
    const size_t n_group = head.mean.size() / n_keys;
    for (size_t i = 0; i < head.mean.size(); i++) mean[i % n_keys] += head.mean[i] / static_cast<float>(n_group);
    return mean;
}

/// Share of the scored head in the norm that all KV heads of the layer give to a token. Heads may hold different
/// tokens, so tokens are matched by position; a token that other heads have dropped gets no larger share for that.
std::vector<float> share_of_norm(const ScorerInput& input) {
    const auto& scored = input.scored();
    std::vector<double> total(scored.positions.size(), 0.0);
    std::vector<int32_t> n_holders(total.size(), 0);
    for (const auto& head : input.heads) {
        size_t at = 0;
        for (size_t j = 0; j < total.size(); j++) {
            while (at < head.positions.size() && head.positions[at] < scored.positions[j]) at++;
            if (at == head.positions.size() || head.positions[at] != scored.positions[j]) continue;
            total[j] += head.output_norms[at];
            n_holders[j]++;
        }
    }
    std::vector<float> share(total.size(), 0.0F);
    for (size_t j = 0; j < share.size(); j++) {
        const double holding = static_cast<double>(n_holders[j]) / static_cast<double>(input.heads.size());
        if (total[j] > 0) share[j] = static_cast<float>(scored.output_norms[j] / total[j] * holding);
    }
    return share;
}

}  // namespace

std::vector<float> defended(std::span<const float> top) {
    double sum = 0;
    for (const float x : top) sum += x;
    const auto mean = static_cast<float>(sum / static_cast<double>(std::max<size_t>(top.size(), 1)));
    std::vector<float> result(top.begin(), top.end());
    for (float& x : result) x = std::max(x, mean);
    return result;
}

double window_bias(std::span<const HeadKeys> heads, int32_t window) {
    double sum = 0;
    size_t n_rows = 0;
    for (const auto& head : heads) {
        const size_t n_keys = head.positions.size();
        const size_t n_last = std::min(n_keys, static_cast<size_t>(window));
        for (size_t end = n_keys; n_keys > 0 && end <= head.mean.size(); end += n_keys, n_rows++)
            for (const float x : head.mean.subspan(end - n_last, n_last)) sum += x;
    }
    return sum / static_cast<double>(std::max<size_t>(n_rows, 1));
}

std::vector<int32_t> pinned_keys(std::span<const float> mean, double share, int64_t limit) {
    const double total = std::accumulate(mean.begin(), mean.end(), 0.0);
    std::vector<int32_t> pinned;
    double sum = 0;
    for (const int32_t j : ranked(mean)) {
        sum += total > 0 ? mean[static_cast<size_t>(j)] / total : 0;
        if (!(sum < share) || std::ssize(pinned) >= limit) break;
        pinned.push_back(j);
    }
    std::ranges::sort(pinned);
    return pinned;
}

int64_t pin_limit(const ScorerInput& input) {
    const auto n_keys = static_cast<int64_t>(input.scored().positions.size());
    const double kept = static_cast<double>(input.budget) / static_cast<double>(n_keys + input.window);
    return std::max<int64_t>(static_cast<int64_t>(static_cast<double>(n_keys) * kept) - input.window, 0);
}

/// The worst case over queries and heads of the smoothed attention. Smoothing does not change how much attention a
/// query pays to the keys outside the window.
void defensivekv_reduce(const ScorerInput& input, const HeadAttention& attention, std::span<float> reduced) {
    const size_t n_slots = reduced.size();
    const auto n_keys = static_cast<size_t>(attention.n_keys);
    std::vector<float> pooled(n_keys);
    for (int32_t i = 0; i < attention.n_queries; i++) {
        const auto weights = attention.weights.subspan(static_cast<size_t>(i) * n_slots, n_keys);
        average_pool(weights, pooled, pool_kernel(input, 5));
        const double before = std::accumulate(weights.begin(), weights.end(), 0.0);
        const double after = std::accumulate(pooled.begin(), pooled.end(), 0.0);
        const auto factor = after > 0 ? static_cast<float>(before / after) : 0.0F;
        for (size_t j = 0; j < n_keys; j++) reduced[j] = std::max(reduced[j], pooled[j] * factor);
    }
}

std::vector<float> unpinned_scores(const ScorerInput& input) {
    const auto& head = input.scored();
    auto scores = defended(head.reduced.first(head.positions.size()));
    const auto share = share_of_norm(input);
    for (size_t j = 0; j < scores.size(); j++) scores[j] *= share[j];
    return scores;
}

/// DefensiveKV: the worst-case attention, but at least its mean, times the head's share in the norm of the token's
/// output. Keys that receive most of the mean attention are pinned.
std::vector<float> defensivekv_score(const ScorerInput& input) {
    constexpr double kPinnedAttention = 0.9;
    auto scores = unpinned_scores(input);
    const double pinned_share = kPinnedAttention - window_bias(input.heads, input.window);
    for (const int32_t j : pinned_keys(group_mean(input.scored()), pinned_share, pin_limit(input)))
        scores[static_cast<size_t>(j)] = kPinnedScore;
    return scores;
}

}  // namespace cake
