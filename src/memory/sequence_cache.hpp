#pragma once

#include <cassert>
#include <cstdint>
#include <utility>

#include "memory/kv_store.hpp"
#include "memory/plan.hpp"
#include "memory/query_ring.hpp"
#include "memory/recurrent_states.hpp"

namespace cake {

/// All memory that a sequence keeps between appends: the slots of its layers, and the queries that score them.
struct SequenceCache {
    uint64_t id = 0;  // unique in the process; 0: not open
    CachePlan plan;
    KvStore sliced;   // layers that attend to the whole text
    KvStore sliding;  // layers that keep a sliding window; empty if there are none
    RecurrentStates recurrent;
    QueryRing queries;  // queries of the sliced layers; empty if the policy does not need them

    /// Allocates the cache as planned. `query_width`: values in the query of a token, all heads; 0: no queries are
    /// kept.
    static Result<SequenceCache> open(Accountant& accountant, const LayerMemory& memory, const CacheLayout& layout,
                                      const CachePlan& plan, int64_t query_width, int64_t window);

    bool is_open() const { return plan.tokens_per_layer > 0; }
    /// Bytes allocated for tokens and states on a device; null: the host.
    size_t bytes_on(ggml_backend_dev_t device) const;
    /// The store of a layer that holds tokens.
    KvStore& of(int32_t layer) { return const_cast<KvStore&>(std::as_const(*this).of(layer)); }
    const KvStore& of(int32_t layer) const {
        assert(sliced.holds(layer) || sliding.holds(layer));
        return sliced.holds(layer) ? sliced : sliding;
    }
    /// Fills this cache, which is open and empty, with everything that `from` holds. Both have the same layout; this
    /// one may be larger.
    void copy(const SequenceCache& from);
    /// Drops all tokens whose position is `n_tokens` or higher, and the last `n_dropped` queries. The states of
    /// recurrent layers stay as they are.
    void truncate(int64_t n_tokens, int64_t n_dropped);
};

}  // namespace cake
