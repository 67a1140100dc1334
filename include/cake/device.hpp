#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "cake/error.hpp"
#include "cake/export.hpp"

namespace cake {

/// A device that can compute the layers of a model, through one of ggml's backends.
struct DeviceInfo {
    std::string name;         // such as "Vulkan0", for EngineOptions::device
    std::string description;  // such as the model of the card
    uint64_t free_bytes = 0;  // memory; both are 0 if the device does not tell
    uint64_t total_bytes = 0;
};

/// The devices of this machine, except the CPU, after those of servers that were added.
CAKE_API std::vector<DeviceInfo> list_devices();

/// Makes the devices of other machines available, each of which runs ggml-rpc-server: they are named "RPC0" and so on.
/// `servers`: HOST:PORT, separated by commas. Servers that were added before are left out. ggml encrypts nothing and
/// trusts its peers: only use servers in a network that you trust.
CAKE_API Result<void> add_rpc_servers(const std::string& servers);

/// Sets what happens if one of these servers goes away while a model needs it. ggml cannot go on from there: the calls
/// that wait for the server never return. `lost` gets a sentence for the user and may end the process. Without it, the
/// process is aborted. For this, add_rpc_servers() sets ggml's abort callback, and calls the one that was set before it
/// for other errors.
CAKE_API void on_lost_server(std::function<void(const std::string& message)> lost);

/// How a model is divided among devices: not at all, or by layers.
enum class SplitMode { none, layer };

/// Where the layers of a model are computed.
struct DeviceOptions {
    /// Names of list_devices(), separated by commas, or "CPU"; "none" for the CPU alone. Empty: the first device that
    /// has room for the weights, or all together if they have, and else the CPU; all devices if one of the others is
    /// set.
    std::string device{};
    /// Number of layers that are computed on devices, those at the end of the model. The output matrix counts as one
    /// more layer. Not set: all, if the devices are named or have room; 0: the CPU computes everything.
    std::optional<int32_t> n_gpu_layers{};
    /// Shares of the layers that the devices get, one for each. Empty: as their free memory is.
    std::vector<double> tensor_split{};
    SplitMode split_mode = SplitMode::layer;
    int32_t main_gpu = 0;  // index of the device that computes all layers with SplitMode::none
    std::string rpc{};     // see add_rpc_servers()

    bool operator==(const DeviceOptions&) const = default;
};

/// Consecutive layers of a model that one device computes.
struct DeviceLayers {
    std::string device;  // empty: the CPU
    int32_t n_layer = 0;
};

}  // namespace cake
