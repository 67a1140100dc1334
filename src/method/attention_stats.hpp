#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace cake {

/// What one layer's window attention says about the keys outside the window (docs/how-it-works.md, Attention Analyzer;
/// paper, section 4.1). `n_keys` counts the keys of a KV head outside the window; nothing is renormalised after the
/// window's own keys are left out.
struct AttentionStats {
    /// By KV head, for the query heads that share it.
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

    /// `n_keys`: [n_head_kv].
    AttentionStats(int32_t n_head, std::span<const int64_t> n_keys);
};

/// Adds query head `head`. `attention` is the causal softmax of `n_queries` window queries over all keys,
/// [n_keys_total, n_queries], of which the first `n_keys` of its KV head lie outside the window; the query `newest` is
/// the last of the text. The variance of a single query is 0.
void add_head(AttentionStats& stats, int32_t head, std::span<const float> attention, int32_t n_queries, int32_t newest);

/// The causal softmax attention of the last `window` queries over all keys, in float32: the definition that faster
/// paths are tested against. `q` is [head_dim, window], `k` is [head_dim, n_keys_total]; the result [n_keys_total,
/// window].
std::vector<float> window_attention(std::span<const float> q, std::span<const float> k, int32_t head_dim,
                                    int32_t window);

}  // namespace cake
