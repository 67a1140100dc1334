#pragma once

#include <cstddef>
#include <span>

#include "cake/error.hpp"

namespace cake {

/// Walks a whole GGUF file (versions 2 and 3) and checks every size in it before anything is allocated or indexed by
/// it: counts, strings, arrays, dimensions, types, alignment, offsets, overlaps. The readers that follow may then trust
/// it.
Result<void> check_gguf(std::span<const std::byte> file);

}  // namespace cake
