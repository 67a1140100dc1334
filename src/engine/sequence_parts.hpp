#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cake/sequence.hpp"
#include "engine/graph.hpp"
#include "engine/sequence_config.hpp"
#include "engine/sequence_status.hpp"
#include "memory/accountant.hpp"
#include "memory/sequence_cache.hpp"

namespace cake {

/// How far a sequence has come in its text.
struct Progress {
    int64_t n_tokens = 0;
    int64_t n_settled = 0;          // tokens that others were evicted for, or whose attention is in the sums
    int64_t n_evicted_slots = 0;    // since the first token
    std::vector<int32_t> n_unread;  // [n_layer] decoded queries whose attention the layer's sums do not hold yet
    std::vector<float> logits;      // after the last token, or after every token of the last text: [n_vocab, n]
    std::optional<Token> pending;   // generated but not yet in the cache: goes there before anything else
};

/// What Sequence tells of its cache, beside what the cache itself says.
struct CacheReport {
    std::vector<LayerReport> layers;           // [n_layer]
    std::vector<std::vector<int32_t>> stages;  // budgets of the sliced layers so far after each joined, last segment
    uint64_t layer_bytes = 0;                  // the staging layer of the longest prefill
};

/// What a Sequence holds.
struct SequenceParts {
    const SequenceConfig config;
    Accountant accountant;  // before what it accounts
    SequenceCache cache;
    Progress progress;
    CacheReport report;
    SequenceStatus status;
    FinishReason finish_reason = FinishReason::length;  // of the last generate()
    Error error;                                        // the same
    std::string note;                                   // of the program, saved with the sequence
    std::unique_ptr<GraphRunner> decode_runner;
    /// Hidden states of a segment are kept as bf16, which has the range of f32, if they would take more than this as
    /// f32. (f16 ends at 65,504, and the residual of Gemma 3 does not.)
    size_t max_hidden_f32_bytes = size_t{64} << 20U;

    /// What is allocated is counted in `whole`, too, if it is not null.
    explicit SequenceParts(SequenceConfig made, Accountant* whole = nullptr);

    /// Allocates the cache for a first prompt of `n_prompt` tokens.
    Result<void> open_cache(const CachePlan& plan);
    void close_cache() { cache = {}; }
};

/// Checks the options and makes an empty sequence of them.
Result<std::unique_ptr<SequenceParts>> make_sequence(std::shared_ptr<const EngineState> engine,
                                                     const SequenceOptions& options, Accountant* whole = nullptr);

}  // namespace cake
