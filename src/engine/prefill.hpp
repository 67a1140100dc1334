#pragma once

#include <generator>
#include <span>

#include "engine/sequence_parts.hpp"

namespace cake {

/// Reads a segment layer by layer over what each layer kept, and evicts after each layer (docs/how-it-works.md,
/// Eviction Manager). Fills the state's store, ring, reports and logits. Several states, all of them empty and of the
/// same engine, window and cache types, have each layer computed once; its memory is counted in the first of them.
///
/// Goes step by step, a chunk of tokens through a layer at a time, so that others can compute in between: yields how
/// many tokens' worth of work is done, or an error, which ends it. What it is given has to outlive it.
///
/// `base`, where it is not null, holds in full the text that comes before, whose length is each state's n_tokens: its
/// layers are copied instead of taken from the states' stores, which are empty.
std::generator<Result<int64_t>> prefill(std::span<SequenceParts* const> states, std::span<const Token> tokens,
                                        bool all_logits, const SequenceParts* base = nullptr);

}  // namespace cake
