#pragma once

#include <cstdint>

#include "model/gguf_file.hpp"

namespace cake {

/// Identifies a model file: a hash of the metadata, the names and shapes of the tensors, and the first bytes of the
/// data of every tensor, over all parts. Two fine-tuned versions of a model have different fingerprints; a copy of a
/// file has the same one.
uint64_t fingerprint(const GgufFile& file);

}  // namespace cake
