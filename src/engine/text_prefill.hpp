#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "engine/prefill.hpp"
#include "engine/sequence_parts.hpp"

namespace cake {

/// Checks a text against a sequence before any work is done for it.
Result<void> check_text(const SequenceParts& sequence, std::span<const Token> tokens);

/// Whether the sequence can hold `n_more` more tokens; the error says what would make room.
Result<void> check_room(const SequenceParts& sequence, int64_t n_more);

/// Opens the cache of a sequence that has none yet, and makes sure that a text of `n_tokens` fits into it.
Result<void> make_room(SequenceParts& sequence, int64_t n_tokens);

/// Reads a text in segments of `segment` tokens (0: all at once) into one sequence, or into several empty ones that
/// read the first segment together. The first step refuses what can be refused, and leaves the sequences as they were
/// then; from then on they are broken until the last step.
class TextPrefill {
  public:
    /// What is passed has to outlive the prefill.
    TextPrefill(std::span<SequenceParts* const> sequences, std::span<const Token> tokens, int64_t segment,
                bool all_logits);

    bool is_done() const { return is_done_; }
    /// The next step. Returns how many tokens' worth of work is done; an error ends it.
    Result<int64_t> step();

  private:
    Result<void> prepare();
    Result<int64_t> take_step();
    void begin_segment();

    std::span<SequenceParts* const> sequences_;
    std::span<const Token> tokens_;
    int64_t segment_;  // as asked for
    bool all_logits_;
    std::vector<SequenceStatus::Step> steps_;  // by sequence, from when it is prepared
    size_t sequence_ = 0;                      // that reads: all read the first segment, then each by itself the others
    int64_t begin_ = 0;                        // of the segment that is read
    std::optional<Prefill> prefill_;
    bool is_done_ = false;
};

/// Reads a text, all at once, into empty sequences as if each had read before it what `base` holds in full.
Result<void> read_branches(const SequenceParts& base, std::span<SequenceParts* const> sequences,
                           std::span<const Token> tokens, const ProgressFunction& progress);

}  // namespace cake
