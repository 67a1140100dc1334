#pragma once

#include <vector>

#include "backend/graph.hpp"
#include "cake/policy.hpp"
#include "eviction/layer_keys.hpp"
#include "eviction/managed_cache.hpp"

namespace cake {

/// Everything that a scorer reads of a layer, in host memory: statistics of all KV heads, and keys, values and queries
/// of one head at a time.
class ScorerData {
  public:
    /// All arguments must outlive this.
    ScorerData(const ManagedCache& managed, const Scorer& scorer, int32_t layer, const LayerKeys& keys);

    /// Computes what the scorer reads of all KV heads.
    Result<void> prepare(GraphRunner& runner);
    /// Returns the input for a KV head. It is valid until the next call.
    ScorerInput input(int32_t head);

  private:
    const CacheRules& rules() const { return managed_.rules; }
    const ScorerReads& reads() const { return scorer_.reads; }
    ScorerInput blank(int32_t head) const;
    Result<void> reduce(GraphRunner& runner);
    std::vector<float> read_queries(int32_t head) const;

    const ManagedCache& managed_;
    const Scorer& scorer_;
    int32_t layer_;
    const LayerKeys& keys_;
    std::vector<HeadKeys> heads_;
    std::vector<std::vector<float>> reduced_;       // [n_head_kv]
    std::vector<std::vector<float>> output_norms_;  // [n_head_kv]
    // Of the KV head that is being scored.
    std::vector<float> head_keys_;
    std::vector<float> head_values_;
    std::vector<float> head_queries_;
};

}  // namespace cake
