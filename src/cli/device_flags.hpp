#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "cake/device.hpp"

namespace cake::cli {

/// Adds the flags that choose the devices on which a model is computed.
void add_devices(CLI::App& app, DeviceOptions& devices);

/// "layers 0 to 11 on the CPU, 12 to 23 and the output on Vulkan0".
std::string text_of(const std::vector<DeviceLayers>& layers);

}  // namespace cake::cli
