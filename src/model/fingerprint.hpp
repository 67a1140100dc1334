#pragma once

#include <cstdint>

#include "model/gguf_file.hpp"

namespace cake {

/// Tells model files apart: a hash of the metadata, the tensors' names and shapes, and the first bytes of every
/// tensor's data, in all parts. Two fine-tunings of one model differ in it; a copy of a file does not.
uint64_t fingerprint(const GgufFile& file);

}  // namespace cake
