#pragma once

#include <cstdint>

#include "engine/sequence_state.hpp"

namespace cake {

/// Fills an opened, empty store as a text of `n_tokens` would, with random K, V and queries.
void make_up(SequenceState& state, int64_t n_tokens);

}  // namespace cake
