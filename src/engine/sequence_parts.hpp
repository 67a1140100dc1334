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

/// How much of its text a sequence has processed, and the logits for the next token.
struct Progress {
    int64_t n_tokens = 0;
    int64_t n_settled = 0;          // text length at the last change that cannot be undone, such as an eviction
    int64_t n_evicted_slots = 0;    // slots evicted since the first token
    std::vector<int32_t> n_unread;  // [n_layer] decoded queries not yet included in the cumulative attention
    std::vector<float> logits;      // [n_vocab, n] after the last token, or after every token of the last append
    std::optional<Token> pending;   // generated token that is not in the cache yet; decoded before anything else
};

/// Figures that a Sequence reports and that cannot be derived from its cache.
struct CacheReport {
    std::vector<LayerReport> layers;           // [n_layer]
    std::vector<std::vector<int32_t>> stages;  // budgets after each sliced layer of the last segment, without windows
    uint64_t layer_bytes = 0;                  // size of the largest staging layer so far
};

/// The state of a Sequence.
struct SequenceParts {
    const SequenceConfig config;
    Accountant accountant;  // declared before the memory that it counts
    SequenceCache cache;
    Progress progress;
    CacheReport report;
    SequenceStatus status;
    FinishReason finish_reason = FinishReason::length;  // why the last generate() ended
    Error error;                                        // why the last generate() failed
    std::string note;                                   // text of the application, saved with the sequence
    std::unique_ptr<GraphRunner> decode_runner;
    /// Hidden states of a segment are stored as bf16, which has the range of f32, if they would take more than this as
    /// f32. (The maximum of f16 is 65,504, which the residual stream of Gemma 3 exceeds.)
    size_t max_hidden_f32_bytes = size_t{64} << 20U;

    /// `whole`, if not null, also counts the memory of this sequence.
    explicit SequenceParts(SequenceConfig made, Accountant* whole = nullptr);

    /// Allocates the cache as planned.
    Result<void> open_cache(const CachePlan& plan);
    void close_cache() { cache = {}; }
};

/// Checks the options and creates an empty sequence.
Result<std::unique_ptr<SequenceParts>> make_sequence(std::shared_ptr<const EngineState> engine,
                                                     const SequenceOptions& options, Accountant* whole = nullptr);

}  // namespace cake
