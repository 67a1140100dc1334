#pragma once

#include "backend/attention.hpp"
#include "backend/compute.hpp"
#include "cake/engine.hpp"
#include "model/architecture.hpp"
#include "model/gguf_file.hpp"
#include "model/weights.hpp"
#include "text/vocabulary.hpp"

namespace cake {

/// The parts of an Engine, shared with its sequences. `file` must outlive `weights`, which may lie in the mapped file.
struct EngineState {
    EngineOptions options;
    GgufFile file;
    Hparams hparams;
    Compute compute;
    AttentionMethod attention;
    Weights weights;
    Vocabulary vocabulary;
    ModelInfo info;
};

}  // namespace cake
