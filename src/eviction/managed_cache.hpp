#pragma once

#include <cstdint>
#include <functional>
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
    /// Reads the output projection of a layer's attention, f32 [head_dim_v * n_head, n_embd].
    std::function<Result<std::vector<float>>(int32_t layer)> output_weights{};

    // These require evicts().
    const Scorer& scorer() const { return *policy.scorer; }
    const Scorer& decode_scorer() const { return *policy.decode_scorer; }
    const Allocator& allocator() const { return *policy.allocator; }
    int32_t n_group() const { return n_head / layout.sliced.n_head_kv; }
    const AttentionTraits& traits_of(int32_t layer) const { return traits[static_cast<size_t>(layer)]; }

    bool evicts() const { return policy.evicts(); }
    bool sums_attention() const {
        return evicts() && (scorer().reads.all_queries || decode_scorer().reads.all_queries);
    }
    bool reads_query_moments() const { return evicts() && scorer().reads.query_moments; }
    Replay replay() const { return evicts() ? scorer().reads.replay : Replay::none; }
    /// True if statistics of the window's attention are needed when a text is read, or when an answer is generated.
    bool reads_window(bool decoding = false) const {
        return evicts() &&
               ((decoding ? decode_scorer() : scorer()).reads.window || allocator().reads_attention || options.analyse);
    }
    /// True if the window's queries are kept in a ring.
    bool reads_queries() const {
        const auto reads = [](const Scorer& s) { return s.reads.queries || s.reduce != nullptr; };
        return reads_window() || reads_window(true) || sums_attention() || options.keep_queries ||
               (evicts() && (reads(scorer()) || reads(decode_scorer())));
    }
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
