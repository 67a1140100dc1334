#pragma once

#include <memory>
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

/// The state behind the public face of an Engine, for the rest of the library.
struct EngineAccess {
    static const std::shared_ptr<const EngineState>& state(const Engine& engine) { return engine.state_; }
};

}  // namespace cake
