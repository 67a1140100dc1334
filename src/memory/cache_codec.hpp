#pragma once

#include <span>
#include <string>

#include "memory/sequence_cache.hpp"
#include "memory/session_file.hpp"

namespace cake {

/// Writes all queries, one layer after another.
Result<void> write_queries(SessionWriter& writer, const SequenceCache& cache);

/// Writes all slots that hold a token, run by run, with their notes.
Result<void> write_cache(SessionWriter& writer, const SequenceCache& cache);

/// Fills a cache from the output of write_queries(), if its ring has any, and write_cache(). The cache must be open and
/// empty, with its runs arranged and its ring restored. `sliced_lengths`: tokens of each run of the sliced layers,
/// [n_head_kv, n_layer]; `sliding_length`: tokens of each run of the sliding layers; `n_tokens`: tokens of the text.
/// Positions that are not consistent with it are an error.
Result<void> read_cache(SessionReader& reader, SequenceCache& cache, std::span<const int32_t> sliced_lengths,
                        int32_t sliding_length, int64_t n_tokens);

}  // namespace cake
