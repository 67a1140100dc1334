#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace cake {

/// Statistics of the window's attention to the keys outside the window, for one layer (docs/how-it-works.md, Attention
/// Analyzer; paper, section 4.1). The attention is not renormalised after the window's own keys are left out.
struct AttentionStats {
    /// Statistics of one KV head, for each query head that shares it.
    struct Head {
        int64_t n_keys = 0;
        std::vector<float> mean;      // [n_keys, n_group] mean over the queries
        std::vector<float> variance;  // [n_keys, n_group] unbiased variance over the queries
        std::vector<float> last;      // [n_keys, n_group] attention of the newest query
    };

    int32_t n_group = 1;    // query heads that share a KV head
    double dispersion = 0;  // H_l = -sum A ln A, over heads, queries and keys
    double shift = 0;       // V_l = sum over heads and keys of the variance over the queries
    std::vector<Head> heads;

    /// `n_keys`: [n_head_kv] number of keys outside the window.
    AttentionStats(int32_t n_head, std::span<const int64_t> n_keys);
};

/// Adds the statistics of query head `head`. `attention` is the causal softmax of `n_queries` window queries over all
/// keys, [n_keys_total, n_queries]; the first `n_keys` keys of its KV head are outside the window. `newest` is the
/// index of the last query of the text. The variance of a single query is 0.
void add_head(AttentionStats& stats, int32_t head, std::span<const float> attention, int32_t n_queries, int32_t newest);

/// The causal softmax attention of the last `window` queries over all keys: the definition that faster paths are tested
/// against. `q`: [head_dim, window]; `k`: [head_dim, n_keys_total]; returns [n_keys_total, window].
std::vector<float> window_attention(std::span<const float> q, std::span<const float> k, int32_t head_dim,
                                    int32_t window);

}  // namespace cake
