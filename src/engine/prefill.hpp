#pragma once

#include <span>

#include "engine/sequence_state.hpp"

namespace cake {

/// Reads a segment layer by layer over what each layer kept, and evicts after each layer (docs/how-it-works.md,
/// Eviction Manager). Fills the state's store, ring, reports and logits. Several states, all of them empty and of the
/// same engine, window and cache types, have each layer computed once; its memory is counted in the first of them.
Result<void> prefill(std::span<SequenceState* const> states, std::span<const Token> tokens,
                     const AppendOptions& options);

}  // namespace cake
