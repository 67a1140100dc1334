#pragma once

#include <cstdint>
#include <vector>

#include "engine/sequence_state.hpp"

namespace cake {

/// Where the cake goes, for every layer of the model.
std::vector<LayerReport> layer_reports(const SequenceState& state);

MemoryReport memory_report(const SequenceState& state);

/// For each of `n_tokens` tokens of the text, the number of layers in which some KV head still holds it.
std::vector<int32_t> layers_holding(const SequenceState& state, int64_t n_tokens);

}  // namespace cake
