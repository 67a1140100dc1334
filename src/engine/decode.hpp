#pragma once

#include <span>

#include "backend/graph.hpp"
#include "engine/sequence_parts.hpp"

namespace cake {

/// The next token of a sequence.
struct NextToken {
    SequenceParts* state;
    Token token;
};

/// Checks that one more token can be decoded. A session that was saved without queries needs a text first, if a slot
/// has to be freed.
Result<void> check_room_for_token(const SequenceParts& state);

/// Evicts tokens from full layers, so that every layer has room for one more token.
Result<void> make_room_for_token(SequenceParts& state);

/// Appends one token to each of several sequences of the same engine, with one pass over the weights. The sequences
/// must have room for it. Fills their logits, which do not depend on the other sequences.
Result<void> decode(std::span<const NextToken> batch, GraphRunner& runner);

}  // namespace cake
