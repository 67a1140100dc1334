#pragma once

#include <cstdint>
#include <vector>

#include "backend/accountant.hpp"
#include "backend/attention.hpp"
#include "cake/sequence.hpp"
#include "memory/plan.hpp"
#include "memory/sequence_cache.hpp"
#include "method/policy.hpp"

namespace cake {

/// How a sequence's cache is kept within its budget. Constant.
struct CacheRules {
    SequenceOptions options;
    Policy policy;
    CacheLayout layout;
    int32_t n_head = 0;                   // query heads of a layer
    std::vector<AttentionTraits> traits;  // [n_layer]
    AttentionMethod attention;

    const Scorer& scorer() const { return *policy.scorer; }           // requires evicts()
    const Allocator& allocator() const { return *policy.allocator; }  // requires evicts()
    int32_t n_group() const { return n_head / layout.sliced.n_head_kv; }
    const AttentionTraits& traits_of(int32_t layer) const { return traits[static_cast<size_t>(layer)]; }

    bool evicts() const { return policy.evicts(); }
    bool sums_attention() const { return evicts() && scorer().reads.all_queries; }
    /// True if statistics of the window's attention are needed.
    bool reads_window() const {
        return evicts() && (scorer().reads.window || allocator().reads_attention || options.analyse);
    }
    /// True if the window's queries are kept in a ring.
    bool reads_queries() const { return reads_window() || sums_attention() || options.keep_queries; }
};

/// How much of its text a sequence has processed.
struct Progress {
    int64_t n_tokens = 0;
    int64_t n_settled = 0;          // text length at the last change that cannot be undone, such as an eviction
    int64_t n_evicted_slots = 0;    // slots evicted since the first token
    std::vector<int32_t> n_unread;  // [n_layer] decoded queries not yet included in the cumulative attention
};

/// Figures that a Sequence reports and that cannot be derived from its cache.
struct CacheReport {
    std::vector<LayerReport> layers;           // [n_layer]
    std::vector<std::vector<int32_t>> stages;  // budgets after each sliced layer of the last segment, without windows
    uint64_t layer_bytes = 0;                  // size of the largest staging layer so far
};

/// The parts of a sequence that eviction reads and changes.
struct ManagedCache {
    const CacheRules& rules;
    Accountant& accountant;
    SequenceCache& cache;
    Progress& progress;
    CacheReport& report;
};

}  // namespace cake
