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

/// Number of tokens that each head keeps: at least its floor; all heads compete for the rest of `total`. Of equal
/// scores the one with the better rank is preferred, or with `by_head` the one of the lower head.
std::vector<int32_t> compete(std::span<const std::span<const float>> scores,
                             std::span<const std::vector<int32_t>> ranks, size_t total, size_t floor, bool by_head) {
    std::vector<int32_t> n_kept;
    std::vector<Candidate> candidates;
    size_t guaranteed = 0;
    for (size_t head = 0; head < scores.size(); head++) {
        const size_t n_floor = std::min(floor, ranks[head].size());
        n_kept.push_back(static_cast<int32_t>(n_floor));
        guaranteed += n_floor;
        for (size_t rank = n_floor; rank < ranks[head].size(); rank++) {
            const float score = scores[head][static_cast<size_t>(ranks[head][rank])];
            candidates.push_back({.score = std::isnan(score) ? -INFINITY : score,
                                  .rank = static_cast<int32_t>(rank),
                                  .head = static_cast<int32_t>(head)});
        }
    }
    const auto n_free = std::min(candidates.size(), total - std::min(total, guaranteed));
    const auto better = [by_head](const Candidate& a, const Candidate& b) {
        if (a.score != b.score) return a.score > b.score;
        if (by_head && a.head != b.head) return a.head < b.head;
        return a.rank != b.rank ? a.rank < b.rank : a.head < b.head;
    };
    std::ranges::nth_element(candidates, candidates.begin() + static_cast<ptrdiff_t>(n_free), better);
    for (size_t i = 0; i < n_free; i++) n_kept[static_cast<size_t>(candidates[i].head)]++;
    return n_kept;
}

/// LAVa's split: of the `budget` tokens a head has outside the window, a share `floor` is its own, and the rest goes to
/// the heads by the number of their tokens among the layer's best. Rounding never exceeds the budget.
std::vector<int32_t> by_count(std::span<const std::span<const float>> scores,
                              std::span<const std::vector<int32_t>> ranks, int32_t budget, int32_t window,
                              double floor) {
    const auto n_window = static_cast<size_t>(window);
    const auto total = static_cast<size_t>(budget) * scores.size();
    auto n_kept = compete(scores, ranks, total, std::min(n_window, total / std::max<size_t>(scores.size(), 1)), true);
    const int32_t outside = std::max(budget - window, 0);
    int64_t left = int64_t{outside} * std::ssize(scores);
    for (int32_t& n : n_kept) {
        const double shared = static_cast<double>(std::max(n - window, 0)) * (1 - floor);
        const auto own = static_cast<int32_t>(static_cast<double>(outside) * floor);
        const auto wanted = static_cast<int64_t>(std::nearbyint(shared + own));
        const auto given = static_cast<int32_t>(std::clamp<int64_t>(wanted, 0, left));
        left -= given;
        n = std::min(n, window) + given;
    }
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

int32_t HeadRule::floor_of(int32_t budget, int32_t window) const {
    return std::min(budget, window) + static_cast<int32_t>(std::max(0, budget - window) * floor);
}

std::vector<std::vector<int32_t>> select_heads(std::span<const std::span<const float>> scores, int32_t budget,
                                               int32_t window, HeadRule rule) {
    std::vector<std::vector<int32_t>> kept;
    if (rule.split == HeadSplit::uniform) {
        for (const auto head : scores) kept.push_back(select_top(head, budget));
        return kept;
    }
    for (const auto head : scores) kept.push_back(ranked(head));
    const int32_t mean = std::max(budget, 0);
    const auto n_kept = rule.split == HeadSplit::by_count
                            ? by_count(scores, kept, mean, window, rule.floor)
                            : compete(scores, kept, static_cast<size_t>(mean) * scores.size(),
                                      static_cast<size_t>(std::max(rule.floor_of(mean, window), 0)), false);
    for (size_t head = 0; head < kept.size(); head++) {
        kept[head].resize(std::min(kept[head].size(), static_cast<size_t>(n_kept[head])));
        std::ranges::sort(kept[head]);
    }
    return kept;
}

std::vector<int32_t> select_model(std::span<const std::span<const float>> scores, int64_t total, int32_t floor) {
    std::vector<std::vector<int32_t>> ranks;
    for (const auto head : scores) ranks.push_back(ranked(head));
    return compete(scores, ranks, static_cast<size_t>(std::max<int64_t>(total, 0)),
                   static_cast<size_t>(std::max(floor, 0)), true);
}

}  // namespace cake
