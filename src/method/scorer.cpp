#include "method/scorer.hpp"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>
#include <numeric>

namespace cake {

namespace {

/// Average over `kernel` neighbours, zeros beyond the ends counted.
void average_pool(std::span<const float> in, std::span<float> out, int64_t kernel) {
    const auto n = static_cast<int64_t>(in.size());
    for (int64_t j = 0; j < n; j++) {
        float sum = 0;
        for (int64_t i = std::max<int64_t>(0, j - kernel / 2); i <= std::min(n - 1, j + kernel / 2); i++) {
            sum += in[static_cast<size_t>(i)];
        }
        out[static_cast<size_t>(j)] = sum / static_cast<float>(kernel);
    }
}

void max_pool(std::span<const float> in, std::span<float> out, int64_t kernel) {
    const auto n = static_cast<int64_t>(in.size());
    for (int64_t j = 0; j < n; j++) {
        float largest = in[static_cast<size_t>(j)];
        for (int64_t i = std::max<int64_t>(0, j - kernel / 2); i <= std::min(n - 1, j + kernel / 2); i++) {
            largest = std::max(largest, in[static_cast<size_t>(i)]);
        }
        out[static_cast<size_t>(j)] = largest;
    }
}

/// Scores of query heads, pooled along the keys, then averaged over the heads that share a KV head.
template <typename Indicator, typename Pool>
std::vector<float> score_heads(const ScorerInput& input, Indicator indicator, Pool pool) {
    assert(input.stats != nullptr && input.stats->n_keys == input.n_keys);
    const auto n_keys = static_cast<size_t>(input.n_keys);
    const int32_t group = input.n_head / input.n_head_kv;
    std::vector<float> scores(n_keys * static_cast<size_t>(input.n_head_kv), 0.0F);
    std::vector<float> raw(n_keys);
    std::vector<float> pooled(n_keys);
    for (int32_t h = 0; h < input.n_head; h++) {
        const size_t head = static_cast<size_t>(h) * n_keys;
        const size_t head_kv = static_cast<size_t>(h / group) * n_keys;
        for (size_t j = 0; j < n_keys; j++) raw[j] = indicator(head + j);
        pool(raw, pooled);
        for (size_t j = 0; j < n_keys; j++) scores[head_kv + j] += pooled[j] / static_cast<float>(group);
    }
    return scores;
}

int64_t kernel(const ScorerInput& input, int64_t published) {
    return input.pool_kernel > 0 ? input.pool_kernel : published;
}

/// Mean plus gamma times variance, average-pooled by 5 (CAKE's eviction indicator; paper, eq. 10).
std::vector<float> cake_score(const ScorerInput& input) {
    const auto& stats = *input.stats;
    return score_heads(
        input, [&](size_t i) { return stats.mean[i] + input.gamma * stats.variance[i]; },
        [&](std::span<const float> in, std::span<float> out) { average_pool(in, out, kernel(input, 5)); });
}

/// The window's attention, max-pooled by 7 (SnapKV).
std::vector<float> snapkv_score(const ScorerInput& input) {
    const auto& stats = *input.stats;
    return score_heads(
        input, [&](size_t i) { return stats.mean[i]; },
        [&](std::span<const float> in, std::span<float> out) { max_pool(in, out, kernel(input, 7)); });
}

/// The first four tokens of the text, then the most recent ones (StreamingLLM).
std::vector<float> streaming_score(const ScorerInput& input) {
    constexpr int32_t kSinks = 4;
    std::vector<float> scores(input.positions.size());
    std::ranges::transform(input.positions, scores.begin(), [](int32_t position) {
        return position < kSinks ? std::numeric_limits<float>::max() : static_cast<float>(position);
    });
    return scores;
}

/// A fixed random number for each token, layer and KV head: what is kept does not depend on when it is asked.
std::vector<float> random_score(const ScorerInput& input) {
    std::vector<float> scores(input.positions.size());
    for (size_t i = 0; i < scores.size(); i++) {
        const auto head = i / static_cast<size_t>(std::max<int64_t>(1, input.n_keys));
        // SplitMix64.
        uint64_t x = input.seed + 0x9E3779B97F4A7C15ULL * (static_cast<uint64_t>(input.positions[i]) + 1) +
                     (static_cast<uint64_t>(input.layer) << 40U) + (static_cast<uint64_t>(head) << 52U);
        x = (x ^ (x >> 30U)) * 0xBF58476D1CE4E5B9ULL;
        x = (x ^ (x >> 27U)) * 0x94D049BB133111EBULL;
        scores[i] = static_cast<float>((x ^ (x >> 31U)) >> 40U);
    }
    return scores;
}

constexpr Scorer kScorers[] = {
    {"cake", "attention's mean + gamma * variance over the window", true, cake_score},
    {"snapkv", "attention's mean over the window", true, snapkv_score},
    {"streaming-llm", "the first 4 and the most recent tokens", false, streaming_score},
    {"random", "chance (a control)", false, random_score},
};

}  // namespace

std::span<const Scorer> scorers() {
    return kScorers;
}

const Scorer* find_scorer(std::string_view name) {
    const auto* found = std::ranges::find(kScorers, name, &Scorer::name);
    return found == std::end(kScorers) ? nullptr : found;
}

std::vector<int32_t> select_top(std::span<const float> scores, int32_t budget) {
    std::vector<int32_t> indices(scores.size());
    std::iota(indices.begin(), indices.end(), 0);
    const auto n_keep = std::min(scores.size(), static_cast<size_t>(std::max(budget, 0)));
    if (n_keep == scores.size()) return indices;

    const auto better = [&](int32_t a, int32_t b) {
        const float score_a = scores[static_cast<size_t>(a)];
        const float score_b = scores[static_cast<size_t>(b)];
        if (std::isnan(score_a) != std::isnan(score_b)) return std::isnan(score_b);
        return score_a > score_b || (!(score_a < score_b) && a < b);
    };
    std::ranges::nth_element(indices, indices.begin() + static_cast<ptrdiff_t>(n_keep), better);
    indices.resize(n_keep);
    std::ranges::sort(indices);
    return indices;
}

}  // namespace cake
