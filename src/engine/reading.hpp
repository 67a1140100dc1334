#pragma once

#include <cstdint>
#include <generator>
#include <new>
#include <span>
#include <type_traits>

#include "engine/sequence_parts.hpp"

namespace cake {

inline std::unexpected<Error> out_of_memory() {
    return fail("memory ran out: a smaller budget, batch (-b) or text needs less");
}

/// Memory that runs out is an error like any other.
template <typename Work>
std::invoke_result_t<Work> within_memory(Work work) {
    try {
        return work();
    } catch (const std::bad_alloc&) {
        return out_of_memory();
    }
}

/// Everything that can be said against tokens before any work is done for them.
Result<void> check_segment(const SequenceParts& state, std::span<const Token> tokens);

/// Gives the state its store where it has none yet, and makes sure that a text fits into it.
Result<void> make_room(SequenceParts& state, int64_t n_tokens);

/// Reads a text in segments of `segment` tokens (0: all at once) into one sequence, or into several empty ones that
/// read the first segment together. Goes in steps as prefill() does, and yields what that yields, of the whole text.
/// What can be refused is before the first step; until the last, the states are broken.
std::generator<Result<int64_t>> read_text(std::span<SequenceParts* const> states, std::span<const Token> tokens,
                                          int64_t segment, bool all_logits);

/// Reads a text, all at once, into empty sequences as if each had read before it what `base` holds in full.
Result<void> read_branches(const SequenceParts& base, std::span<SequenceParts* const> states,
                           std::span<const Token> tokens, const ProgressFunction& progress);

}  // namespace cake
