#pragma once

#include <cstdint>
#include <vector>

#include "engine/sequence_parts.hpp"

namespace cake {

/// Implements Sequence::attention_by_position().
Result<std::vector<float>> attention_by_position(SequenceParts& state, int64_t n_queries);

}  // namespace cake
