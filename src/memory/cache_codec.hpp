#pragma once

#include <span>
#include <string>

#include "memory/sequence_cache.hpp"
#include "memory/session_file.hpp"

namespace cake {

/// Writes the slots that hold a token, run after run, with their notes, and the queries.
Result<void> write_cache(SessionWriter& writer, const SequenceCache& cache);

/// Fills an open, empty cache, whose runs are arranged and whose ring is restored, from what write_cache() wrote.
/// `sliced_lengths`: tokens of each run of the sliced layers, [n_head_kv, n_layer]; `sliding_length`: of each run of
/// the sliding ones. `n_tokens`: of the text; positions that do not fit it are an error, which says what is wrong.
Result<void> read_cache(SessionReader& reader, SequenceCache& cache, std::span<const int32_t> sliced_lengths,
                        int32_t sliding_length, int64_t n_tokens);

}  // namespace cake
