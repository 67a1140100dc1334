#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cake/error.hpp"
#include "model/gguf_part.hpp"

namespace cake {

/// Opens and checks a GGUF file and, where it is the first of several that a model is split over, the others beside it,
/// by their names ("NAME-00002-of-00003.gguf"), in their order. Refuses a part that is not the first, one that is
/// missing, and parts that do not belong together. Errors name the path.
Result<std::vector<GgufPart>> open_gguf_parts(const std::string& path);

}  // namespace cake
