#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cake/export.hpp"

namespace cake {

/// A device that can compute the layers of a model, through one of ggml's backends.
struct DeviceInfo {
    std::string name;         // such as "Vulkan0", for EngineOptions::device
    std::string description;  // such as the model of the card
    uint64_t free_bytes = 0;  // memory; both are 0 if the device does not tell
    uint64_t total_bytes = 0;
};

/// The devices of this machine, except the CPU.
CAKE_API std::vector<DeviceInfo> list_devices();

}  // namespace cake
