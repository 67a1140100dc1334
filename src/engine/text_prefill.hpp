#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/prefill.hpp"
#include "engine/sequence_parts.hpp"

namespace cake {

/// Checks that a text can be appended to a sequence: its status, the tokens, and the length of the context.
Result<void> check_text(const SequenceParts& sequence, std::span<const Token> tokens);

/// Checks that the sequence has room for `n_more` more tokens. The error suggests what would make room.
Result<void> check_room(const SequenceParts& sequence, int64_t n_more);

/// Opens the cache of a sequence if it has none yet, and checks that `n_tokens` more tokens fit into it.
Result<void> make_room(SequenceParts& sequence, int64_t n_tokens);

/// Prefill of a text, in segments of `segment` tokens (0: all at once), into one sequence, or into several empty
/// sequences that share the prefill of the first segment. The first step makes all checks; if one of them fails, the
/// sequences are unchanged. After the first step, the sequences are broken until the last one is done.
class TextPrefill {
  public:
    /// All arguments must outlive the prefill.
    TextPrefill(std::span<SequenceParts* const> sequences, std::span<const Token> tokens, int64_t segment,
                LogitsWanted wanted = {});

    bool is_done() const { return is_done_; }
    /// Runs the next step. Returns the work done so far in tokens of the text. An error ends the prefill.
    Result<int64_t> step();

  private:
    Result<void> prepare();
    Result<int64_t> take_step();
    void begin_segment();

    std::span<SequenceParts* const> sequences_;
    std::span<const Token> tokens_;
    int64_t segment_;  // max tokens of a segment; 0: all at once
    LogitsWanted wanted_;
    std::vector<SequenceStatus::Step> steps_;  // one for each sequence, after prepare()
    size_t sequence_ = 0;                      // index of the current sequence, from the second segment on
    int64_t begin_ = 0;                        // first token of the current segment
    std::unique_ptr<Prefill> prefill_;
    bool is_done_ = false;
};

/// Prefills a text in one segment into empty sequences, as if each already held the text that `base` holds in full.
Result<void> read_branches(const SequenceParts& base, std::span<SequenceParts* const> sequences,
                           std::span<const Token> tokens, const ProgressFunction& progress);

}  // namespace cake
