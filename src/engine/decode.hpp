#pragma once

#include "engine/sequence_state.hpp"

namespace cake {

/// Adds one token over the store, evicting first in the layers that are full. Fills the state's logits.
Result<void> decode(SequenceState& state, Token token);

}  // namespace cake
