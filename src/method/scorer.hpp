#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "method/attention_stats.hpp"

namespace cake {

/// All that a scorer may read of one layer. Keys are those outside the window, oldest first.
struct ScorerInput {
    int32_t layer = 0;
    int32_t n_head = 0;
    int32_t n_head_kv = 0;
    int64_t n_keys = 0;
    std::span<const int32_t> positions;     // [n_keys, n_head_kv] position of each key in the text
    const AttentionStats* stats = nullptr;  // null where the scorer does not read attention
    float gamma = 200;
    int32_t pool_kernel =
        0;  // neighbouring keys that share their scores, an odd number; 0: as the scorer was published
    uint64_t seed = 0;
};

/// Which tokens of a layer stay: a score for each key and KV head, [n_keys, n_head_kv]; the highest stay.
struct Scorer {
    std::string_view name;
    std::string_view summary;
    bool reads_attention;
    std::vector<float> (*score)(const ScorerInput& input);
};

std::span<const Scorer> scorers();

/// Null where there is none of that name.
const Scorer* find_scorer(std::string_view name);

/// The indices of the `budget` highest scores, ascending; of equal scores the older stays, a NaN goes first.
std::vector<int32_t> select_top(std::span<const float> scores, int32_t budget);

}  // namespace cake
