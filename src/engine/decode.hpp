#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "backend/graph.hpp"
#include "cake/sequence.hpp"

namespace cake {

struct SequenceParts;

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

class DecodeGraph;

/// Decodes one token after another with one pass over the weights for each. On a CPU and with our attention, the graph
/// is used again as long as the sequences stay the same: building it takes 0.3 ms for 30 layers.
class Decoder {
  public:
    Decoder(const Compute& compute, Accountant& accountant);
    ~Decoder();

    /// Appends one token to each of several sequences of the same engine, which must have room for it. Fills their
    /// logits, which do not depend on the other sequences.
    Result<void> decode(std::span<const NextToken> batch);

  private:
    GraphRunner runner_;
    std::unique_ptr<DecodeGraph> graph_;
};

}  // namespace cake
