#pragma once

#include <cstdint>

#include "engine/sequence_parts.hpp"

namespace cake {

/// Fills an opened, empty cache with random K, V and queries, as if a text of `n_tokens` had been prefilled.
void make_up(SequenceParts& state, int64_t n_tokens);

}  // namespace cake
