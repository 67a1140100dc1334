#pragma once

#include <cstdint>
#include <vector>

#include "engine/sequence_parts.hpp"

namespace cake {

/// Budget, kept tokens and statistics of every layer of the model.
std::vector<LayerReport> layer_reports(const SequenceParts& state);

MemoryReport memory_report(const SequenceParts& state);
/// The memory on each device; empty if the CPU computes all layers.
std::vector<DeviceMemoryReport> device_reports(const SequenceParts& state);
/// The same of all sequences that `accountant` counts, without the budgets.
std::vector<DeviceMemoryReport> device_reports(const Accountant& accountant, const Compute& compute);

/// Returns, for each of the first `n_tokens` tokens of the text, the number of layers in which at least one KV head
/// holds it.
std::vector<int32_t> layers_holding(const SequenceParts& state, int64_t n_tokens);

}  // namespace cake
