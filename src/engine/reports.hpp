#pragma once

#include <cstdint>
#include <vector>

#include "engine/sequence_parts.hpp"

namespace cake {

/// Where the cake goes, for every layer of the model.
std::vector<LayerReport> layer_reports(const SequenceParts& state);

MemoryReport memory_report(const SequenceParts& state);

/// For each of `n_tokens` tokens of the text, the number of layers in which some KV head still holds it.
std::vector<int32_t> layers_holding(const SequenceParts& state, int64_t n_tokens);

}  // namespace cake
