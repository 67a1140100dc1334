#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cake/error.hpp"
#include "model/gguf_part.hpp"

namespace cake {

/// Opens and checks a GGUF file and, if it is the first of several that a model is split over, the others in the same
/// directory, which are found by name ("NAME-00002-of-00003.gguf"). Returns the parts in order. Fails if `path` is not
/// the first part, if a part is missing, or if the parts do not belong together. Errors name the path.
Result<std::vector<GgufPart>> open_gguf_parts(const std::string& path);

}  // namespace cake
