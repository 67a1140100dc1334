#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace cake {

/// How the budget is divided among KV heads: equally in each layer, by their scores within a layer (`adaptive`; AdaKV,
/// arXiv 2407.11550), by the number of their tokens among the layer's best, rounded (`by_count`; LAVa), or by the
/// scores of all layers together (`model`).
enum class HeadSplit : uint8_t { uniform, adaptive, by_count, model };

/// A split, with the share of the mean budget outside the window that every head keeps of its own best tokens.
struct HeadRule {
    HeadSplit split = HeadSplit::uniform;
    double floor = 0;

    /// Tokens that a head keeps at least, with the window.
    int32_t floor_of(int32_t budget, int32_t window) const;
};

/// All indices, highest score first. Equal scores: older first. NaN last.
std::vector<int32_t> ranked(std::span<const float> scores);

/// The indices of the `budget` highest scores, ascending. Of equal scores, the older token is kept. A NaN is dropped
/// first.
std::vector<int32_t> select_top(std::span<const float> scores, int32_t budget);

/// Selects the tokens that stay in each KV head of a layer, as ascending indices. A head keeps `budget` tokens on
/// average, including the `window` tokens whose score is infinity. `uniform`: each head keeps its own best `budget`
/// tokens. `adaptive`: the best tokens of all heads together are kept, but of each head at least its best
/// rule.floor_of(budget, window). `by_count`: a head keeps the floor and, of the rest, its share of the layer's best
/// tokens. `model`: as `adaptive`, within this layer. A smaller budget keeps a subset of what a larger one keeps, so
/// dropping in stages loses nothing.
std::vector<std::vector<int32_t>> select_heads(std::span<const std::span<const float>> scores, int32_t budget,
                                               int32_t window, HeadRule rule);

/// Selects the best `total` tokens of the KV heads of all layers together, but of each head at least its best `floor`,
/// of which the window's tokens with their score of infinity come first. A head with fewer keeps all. Returns the
/// number of tokens that each head keeps, which are its best ones. Ties: the lower index in `scores`, then the better
/// rank.
std::vector<int32_t> select_model(std::span<const std::span<const float>> scores, int64_t total, int32_t floor);

}  // namespace cake
