#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cake/policy.hpp"

namespace cake {

// Parts of R-KV's score of a KV head. `keys`: [head_dim, n_slots], of which the first n_keys are outside the window.

/// Attention of the queries to the keys outside the window: the softmax, over these keys alone, of the largest logit of
/// the group, mean over the queries. `queries`: [head_dim, n_queries, n_group]. Returns [n_keys].
std::vector<float> group_attention(std::span<const float> queries, std::span<const float> keys, size_t head_dim,
                                   size_t n_queries, size_t n_keys);

/// How redundant each key is, [n_slots], and for each key the last one that is similar to it, which is not punished.
struct Redundancy {
    std::vector<float> scores;          // softmax over all slots of the mean cosine to the others
    std::vector<int32_t> last_similar;  // 0 if there is none
};
Redundancy redundancy(std::span<const float> keys, size_t head_dim, float similar);

/// Scores of the keys outside the window, [n_keys]: lambda·importance − (1 − lambda)·redundancy.
std::vector<float> rkv_scores(std::span<const float> importance, std::span<const float> redundancy, float lambda);

}  // namespace cake
