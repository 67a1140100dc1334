#pragma once

#include "memory/kv_store.hpp"
#include "memory/plan.hpp"
#include "memory/query_ring.hpp"

namespace cake {

/// All memory that a sequence keeps between texts: the slots of its layers, and the queries that judge them.
struct SequenceCache {
    CachePlan plan;
    KvStore sliced;     // layers that attend to the whole text
    KvStore sliding;    // layers that keep a sliding window; empty if there are none
    QueryRing queries;  // of the sliced layers; empty unless the policy reads them

    /// Allocates what the plan says. `query_width`: values of a query, all heads; 0: no queries are kept.
    static Result<SequenceCache> open(Accountant& accountant, ggml_backend_buffer_type_t type,
                                      const CacheLayout& layout, const CachePlan& plan, int64_t query_width,
                                      int64_t window);

    bool is_open() const { return plan.tokens_per_layer > 0; }
    KvStore& of(int32_t layer) { return sliced.holds(layer) ? sliced : sliding; }
    const KvStore& of(int32_t layer) const { return sliced.holds(layer) ? sliced : sliding; }
    /// Drops the tokens of all layers whose position is `n_tokens` or higher, and their queries.
    void truncate(int64_t n_tokens, int64_t n_dropped);
};

}  // namespace cake
