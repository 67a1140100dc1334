#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cake/sequence.hpp"
#include "engine/decode.hpp"
#include "engine/sequence_config.hpp"
#include "engine/sequence_status.hpp"

namespace cake {

/// What the text so far says about the next token.
struct Prediction {
    std::vector<float> logits;     // [n_vocab, n] after the last token, or after every token of the last append
    std::optional<Token> pending;  // generated token that is not in the cache yet; decoded before anything else
};

/// The state of a Sequence.
struct SequenceParts {
    const SequenceConfig config;
    Accountant accountant;  // declared before the memory that it counts
    SequenceCache cache;
    Progress progress;
    CacheReport report;
    Prediction next;
    SequenceStatus status;
    FinishReason finish_reason = FinishReason::length;  // why the last generate() ended
    Error error;                                        // why the last generate() failed
    std::string note;                                   // text of the application, saved with the sequence
    std::unique_ptr<Decoder> decoder;                   // created on first use
    /// Hidden states of a segment are stored as bf16, which has the range of f32, if they would take more than this as
    /// f32. (The maximum of f16 is 65,504, which the residual stream of Gemma 3 exceeds.)
    size_t max_hidden_f32_bytes = size_t{64} << 20U;

    /// `whole`, if not null, also counts the memory of this sequence.
    explicit SequenceParts(SequenceConfig made, Accountant* whole = nullptr);

    ManagedCache managed() { return {config, accountant, cache, progress, report}; }
    /// Allocates the cache as planned.
    Result<void> open_cache(const CachePlan& plan);
    void close_cache() { cache = {}; }
    /// Fills an empty sequence with the text of `from`, as it is held there, for a text to be appended to. `from` has
    /// the same options, except for `max_tokens`. `plan`: sizes of this cache.
    Result<void> copy_text(const SequenceParts& from, const CachePlan& plan);
};

/// Checks the options and creates an empty sequence.
Result<std::unique_ptr<SequenceParts>> make_sequence(std::shared_ptr<const EngineState> engine,
                                                     const SequenceOptions& options, Accountant* whole = nullptr);

}  // namespace cake
