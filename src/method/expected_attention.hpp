#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cake/policy.hpp"

namespace cake {

/// Mean and covariance of the queries of a text before RoPE, by query head, computed in one pass over it in chunks.
/// Products are summed around the mean of each chunk, because Σqqᵀ/n − μμᵀ would cancel in float32.
class QueryMoments {
  public:
    QueryMoments(int32_t n_head, int32_t head_dim);

    /// Adds the queries of one head, [head_dim, n].
    void add(int32_t head, std::span<const float> queries);
    /// Adds `n` queries of one head by their mean, [head_dim], and the sum of the products of their distances from it,
    /// [head_dim, head_dim].
    void merge(int32_t head, int64_t n, std::span<const float> mean, std::span<const float> products);
    int64_t n_queries(int32_t head) const { return heads_[static_cast<size_t>(head)].n; }

    std::vector<float> mean(int32_t head) const;        // [head_dim]
    std::vector<float> covariance(int32_t head) const;  // [head_dim, head_dim] divided by n

  private:
    struct Head {
        int64_t n = 0;
        std::vector<double> mean;      // [head_dim]
        std::vector<double> products;  // [head_dim, head_dim] sum of (q − mean)(q − mean)ᵀ
    };
    int32_t head_dim_;
    std::vector<Head> heads_;
};

/// R·mean and R·covariance·Rᵀ. `rotation`: [head_dim, head_dim], one row for each element of the result.
std::vector<float> rotated_mean(std::span<const float> mean, std::span<const float> rotation);
std::vector<float> rotated_covariance(std::span<const float> covariance, std::span<const float> rotation);

/// Expected attention of the queries to follow to each key after the sinks, before it is weighted: the softmax over the
/// keys of μ·k/√d + kᵀΣk/2d, mean of the group. Returns [n], with 0 for the first `n_sink` keys. `keys`: [head_dim, n];
/// `mean`, `covariance`: as in HeadKeys; an empty covariance leaves its term out.
std::vector<float> expected_attention(std::span<const float> keys, std::span<const float> mean,
                                      std::span<const float> covariance, size_t head_dim, size_t n_sink);

}  // namespace cake
