#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cake/device.hpp"
#include "cake/error.hpp"

namespace cake {

/// Decides which device computes which layers of a model, in the order of the layers; empty: the CPU computes all. The
/// output matrix counts as one more layer. `n_bytes`: size of the weights.
Result<std::vector<DeviceLayers>> place_layers(const DeviceOptions& options, int32_t n_layer, uint64_t n_bytes);

/// Memory that a device needs beside the weights, for K/V and intermediate results.
constexpr uint64_t kRoomBesideWeights = uint64_t{512} << 20U;

/// The same for devices that are known. `n_gpu_layers`: layers at the end of the model that the devices compute.
/// `shares`: of these layers, one for each device, not all 0.
std::vector<DeviceLayers> split_layers(const std::vector<std::string>& devices, int32_t n_layer, int32_t n_gpu_layers,
                                       const std::vector<double>& shares);

}  // namespace cake
