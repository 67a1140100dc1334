#pragma once

#include <cstdint>
#include <vector>

#include "engine/sequence_parts.hpp"

namespace cake {

/// Budget, kept tokens and statistics of every layer of the model.
std::vector<LayerReport> layer_reports(const SequenceParts& state);

MemoryReport memory_report(const SequenceParts& state);

/// Returns, for each of the first `n_tokens` tokens of the text, the number of layers in which at least one KV head
/// holds it.
std::vector<int32_t> layers_holding(const SequenceParts& state, int64_t n_tokens);

}  // namespace cake
