#pragma once

#include <cstdint>

#include "engine/sequence_parts.hpp"

namespace cake {

/// Fills an opened, empty store as a text of `n_tokens` would, with random K, V and queries.
void make_up(SequenceParts& state, int64_t n_tokens);

}  // namespace cake
