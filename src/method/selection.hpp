#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace cake {

/// How a layer's budget is divided among its KV heads: equally, or by their scores.
enum class HeadSplit { uniform, adaptive };

/// All indices, highest score first. Equal scores: older first. NaN last.
std::vector<int32_t> ranked(std::span<const float> scores);

/// The indices of the `budget` highest scores, ascending. Of equal scores, the older token is kept. A NaN is dropped
/// first.
std::vector<int32_t> select_top(std::span<const float> scores, int32_t budget);

/// Selects the tokens that stay in each KV head of a layer, as ascending indices. A head keeps `budget` tokens on
/// average, including the `window` tokens whose score is infinity. `uniform`: each head keeps its own best `budget`
/// tokens. `adaptive`: the best tokens of all heads together are kept, but each head keeps at least the window and its
/// best fifth of the rest of `budget` (AdaKV, arXiv 2407.11550). A smaller budget keeps a subset of what a larger one
/// keeps, so dropping in stages loses nothing.
std::vector<std::vector<int32_t>> select_heads(std::span<const std::span<const float>> scores, int32_t budget,
                                               int32_t window, HeadSplit split);

}  // namespace cake
