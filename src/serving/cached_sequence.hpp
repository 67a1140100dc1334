#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/sequence_parts.hpp"

namespace cake {

/// The states of recurrent layers after a part of a text, to which a sequence can be taken back.
struct StateSnapshot {
    RecurrentStates states;
    size_t n_tokens = 0;  // 0: there is none
};

/// A sequence together with its text, so that a prompt that begins with this text can continue from it.
struct CachedSequence {
    std::string id;    // ID of the last request that used it
    std::string salt;  // GenerationRequest::cache_salt
    std::unique_ptr<SequenceParts> state;
    std::vector<Token> tokens;     // [n_tokens] the whole text: prompt and answer
    size_t n_prompt = 0;           // number of prompt tokens; the tokens after them were generated
    int64_t tokens_per_layer = 0;  // capacity of its store in tokens per layer
    uint64_t kv_bytes = 0;         // reserved for it in the pool
    bool may_snapshot = false;     // memory for a snapshot is reserved, too
    StateSnapshot snapshot{};
    bool is_prefix = false;  // the beginning of several prompts: they continue from copies of it
};

/// Bytes that are reserved for several sequences in the pool.
template <typename Sequences>
uint64_t kv_bytes_of(const Sequences& sequences) {
    uint64_t n = 0;
    for (const CachedSequence& sequence : sequences) n += sequence.kv_bytes;
    return n;
}

/// True if a text that was read with one of these options can be continued with the other. They may differ in
/// `max_tokens`.
bool same_options(SequenceOptions a, const SequenceOptions& b);

/// Number of tokens at the beginning of `prompt` that `sequence` has too, without the last token of the prompt, and
/// with recurrent layers at most up to the snapshot. Returns 0 if the sequence cannot be cut there, because tokens were
/// evicted later, or if this would drop more than half of it. `options`: those of the new request.
size_t reusable_tokens(const CachedSequence& sequence, const SequenceOptions& options, std::span<const Token> prompt);

/// Copies the states of the recurrent layers, if there are any and if memory is reserved for it. Without memory, there
/// is no snapshot.
void take_snapshot(CachedSequence& sequence);

/// Removes the tokens after the first `n`, which is a result of reusable_tokens().
void rewind(CachedSequence& sequence, size_t n);

}  // namespace cake
