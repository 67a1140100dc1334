#pragma once

#include "engine/sequence_state.hpp"

namespace cake {

/// Adds one token over the store, evicting first in the layers that are full. Fills the state's logits.
Result<void> decode(SequenceState& state, Token token);

/// Whether so many tokens more can be held; the error says what would make room.
Result<void> check_room(const SequenceState& state, int64_t n_more);

}  // namespace cake
