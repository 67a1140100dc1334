#pragma once

#include <cstdint>
#include <vector>

#include "cake/error.hpp"
#include "model/gguf_file.hpp"
#include "model/hparams.hpp"

namespace cake {

/// Reads the output projection of a layer's attention from the model file, as float32 in host memory:
/// [head_dim_v * n_head, n_embd]. The loaded tensor may have a layout that only its device can read.
Result<std::vector<float>> read_output_weights(const GgufFile& file, const Hparams& hparams, int32_t layer);

}  // namespace cake
