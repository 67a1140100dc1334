#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/sequence_parts.hpp"

namespace cake {

/// A sequence whose text is known, so that a longer one can go on from what was kept of it.
struct CachedSequence {
    std::string id;  // of the request that it answered last
    std::unique_ptr<SequenceParts> state;
    std::vector<Token> tokens;     // [n_tokens] the whole text
    size_t n_prompt = 0;           // tokens of it that were read; those behind them were generated
    int64_t tokens_per_layer = 0;  // of its store
    uint64_t kv_bytes = 0;         // that this takes
};

/// How many of the first tokens of `prompt` it can stand for, 0 where it cannot: all that it has read, and as much of
/// the answer as the prompt repeats, if nothing has been evicted since. `options` are those that a sequence of the
/// prompt's own would have.
size_t reusable_tokens(const CachedSequence& sequence, const SequenceOptions& options, std::span<const Token> prompt);

/// Forgets what was generated behind the first `n` tokens, as many as reusable_tokens() says.
void rewind(CachedSequence& sequence, size_t n);

}  // namespace cake
