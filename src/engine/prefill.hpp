#pragma once

#include <span>

#include "engine/sequence_state.hpp"

namespace cake {

/// Reads a segment layer by layer over what each layer kept, and evicts after each layer (docs/how-it-works.md,
/// Eviction Manager). Fills the state's store, ring, reports and logits.
Result<void> prefill(SequenceState& state, std::span<const Token> tokens, const AppendOptions& options);

}  // namespace cake
