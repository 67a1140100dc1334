#pragma once

#include <cstddef>
#include <span>

#include "cake/error.hpp"

namespace cake {

/// Checks every size in a GGUF file (versions 2 and 3) before it is used to allocate or index anything: counts,
/// strings, arrays, dimensions, types, alignment, offsets, overlaps. Readers can trust the file afterwards.
Result<void> check_gguf(std::span<const std::byte> file);

}  // namespace cake
