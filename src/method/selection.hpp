#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace cake {

/// How a layer's budget is shared among its KV heads: the same for each, or by their scores.
enum class HeadSplit { uniform, adaptive };

/// All indices, the best score first; of equal scores the older, and NaN last.
std::vector<int32_t> ranked(std::span<const float> scores);

/// The indices of the `budget` highest scores, ascending; of equal scores the older stays, a NaN goes first.
std::vector<int32_t> select_top(std::span<const float> scores, int32_t budget);

/// Which tokens stay in each KV head of a layer, ascending indices, where a head keeps `budget` tokens on average, of
/// which `window` have the score infinity. `uniform`: each head its own best `budget`. `adaptive`: the best of all
/// heads together, but each head at least its own best fifth of a uniform share (AdaKV, arXiv 2407.11550). A smaller
/// budget keeps a subset of what a larger one keeps, so dropping in stages loses nothing.
std::vector<std::vector<int32_t>> select_heads(std::span<const std::span<const float>> scores, int32_t budget,
                                               int32_t window, HeadSplit split);

}  // namespace cake
