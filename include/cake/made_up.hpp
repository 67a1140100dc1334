#pragma once

#include <cstdint>

#include "cake/sequence.hpp"

namespace cake {

/// Fills an empty sequence with random keys and values, as if a text of `n_tokens` tokens had been prefilled. This is
/// for measuring speed at a depth that would take long to reach; text generated from it is meaningless. Not installed.
CAKE_API Result<void> make_up(Sequence& sequence, int64_t n_tokens);

}  // namespace cake
