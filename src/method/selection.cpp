#include "method/selection.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace cake {

namespace {

/// A total order of one head's tokens, best first: by score, then older tokens first; NaN last.
auto better_in(std::span<const float> scores) {
    return [scores](int32_t a, int32_t b) {
        const float score_a = scores[static_cast<size_t>(a)];
        const float score_b = scores[static_cast<size_t>(b)];
        if (std::isnan(score_a) != std::isnan(score_b)) return std::isnan(score_b);
        return score_a > score_b || (!(score_a < score_b) && a < b);
    };
}

std::vector<int32_t> all_of(size_t n) {
    std::vector<int32_t> indices(n);
    std::iota(indices.begin(), indices.end(), 0);
    return indices;
}

/// A token that competes with those of the other heads. `rank` is its rank within its own head.
struct Candidate {
    float score;
    int32_t rank;
    int32_t head;
};

/// Number of tokens that each head keeps: at least its floor; all heads compete for the rest of `total`.
std::vector<size_t> compete(std::span<const std::span<const float>> scores, std::span<const std::vector<int32_t>> ranks,
                            size_t total, size_t floor) {
    std::vector<size_t> n_kept;
    std::vector<Candidate> candidates;
    size_t guaranteed = 0;
    for (size_t head = 0; head < scores.size(); head++) {
        n_kept.push_back(std::min(floor, ranks[head].size()));
        guaranteed += n_kept.back();
        for (size_t rank = n_kept.back(); rank < ranks[head].size(); rank++) {
            const float score = scores[head][static_cast<size_t>(ranks[head][rank])];
            candidates.push_back({.score = std::isnan(score) ? -INFINITY : score,
                                  .rank = static_cast<int32_t>(rank),
                                  .head = static_cast<int32_t>(head)});
        }
    }
    const auto n_free = std::min(candidates.size(), total - std::min(total, guaranteed));
    const auto better = [](const Candidate& a, const Candidate& b) {
        if (a.score != b.score) return a.score > b.score;
        return a.rank != b.rank ? a.rank < b.rank : a.head < b.head;
    };
    std::ranges::nth_element(candidates, candidates.begin() + static_cast<ptrdiff_t>(n_free), better);
    for (size_t i = 0; i < n_free; i++) n_kept[static_cast<size_t>(candidates[i].head)]++;
    return n_kept;
}

}  // namespace

std::vector<int32_t> ranked(std::span<const float> scores) {
    auto indices = all_of(scores.size());
    std::ranges::sort(indices, better_in(scores));
    return indices;
}

std::vector<int32_t> select_top(std::span<const float> scores, int32_t budget) {
    auto indices = all_of(scores.size());
    const auto n_keep = std::min(scores.size(), static_cast<size_t>(std::max(budget, 0)));
    if (n_keep == scores.size()) return indices;
    std::ranges::nth_element(indices, indices.begin() + static_cast<ptrdiff_t>(n_keep), better_in(scores));
    indices.resize(n_keep);
    std::ranges::sort(indices);
    return indices;
}

std::vector<std::vector<int32_t>> select_heads(std::span<const std::span<const float>> scores, int32_t budget,
                                               int32_t window, HeadSplit split) {
    std::vector<std::vector<int32_t>> kept;
    if (split == HeadSplit::uniform) {
        for (const auto head : scores) kept.push_back(select_top(head, budget));
        return kept;
    }
    for (const auto head : scores) kept.push_back(ranked(head));
    constexpr int32_t kFloor = 5;  // 1/5: the safeguard of 0.2 in AdaKV
    const auto mean = static_cast<size_t>(std::max(budget, 0));
    const int32_t floor = std::min(budget, window) + std::max(0, budget - window) / kFloor;
    const auto n_kept = compete(scores, kept, mean * scores.size(), static_cast<size_t>(std::max(floor, 0)));
    for (size_t head = 0; head < kept.size(); head++) {
        kept[head].resize(n_kept[head]);
        std::ranges::sort(kept[head]);
    }
    return kept;
}

}  // namespace cake
