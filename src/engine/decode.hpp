#pragma once

#include <span>

#include "engine/graph.hpp"
#include "engine/sequence_parts.hpp"

namespace cake {

/// A token that a sequence gets.
struct NextToken {
    SequenceParts* state;
    Token token;
};

/// Evicts in the layers that are full, so that each can take a token.
Result<void> make_room_for_token(SequenceParts& state);

/// Adds a token to each of several sequences of one engine, which have room for it, with one pass over the weights.
/// Fills their logits, which are what they would be without the others.
Result<void> decode(std::span<const NextToken> batch, GraphRunner& runner);

}  // namespace cake
