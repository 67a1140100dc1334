#include "backend/placement.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <ranges>
#include <string_view>

#include "backend/devices.hpp"

namespace cake {

namespace {

constexpr const char* kCpu = "CPU";

bool is_empty_choice(const DeviceOptions& options) {
    return !options.n_gpu_layers && options.tensor_split.empty() && options.split && options.rpc.empty();
}

std::vector<std::string> names_of(const std::vector<DeviceInfo>& devices) {
    return devices | std::views::transform(&DeviceInfo::name) | std::ranges::to<std::vector>();
}

/// The first device that has room for the weights and some hundred MiB besides, or all if they have together.
std::vector<std::string> roomy_devices(uint64_t n_bytes) {
    const auto devices = list_devices();
    uint64_t n_free = 0;
    for (const auto& device : devices) {
        if (device.free_bytes > n_bytes + kRoomBesideWeights) return {device.name};
        n_free += device.free_bytes - std::min(device.free_bytes, kRoomBesideWeights);
    }
    return n_free > n_bytes ? names_of(devices) : std::vector<std::string>();
}

Result<std::vector<std::string>> chosen_devices(const DeviceOptions& options, uint64_t n_bytes) {
    std::vector<std::string> names;
    if (options.device.empty()) {
        names = is_empty_choice(options) ? roomy_devices(n_bytes) : names_of(list_devices());
        if (names.empty() && options.n_gpu_layers.value_or(0) > 0)
            return fail(Error::Code::not_found, "there is no device here that could compute layers (--list-devices)");
    } else {
        for (const auto part : std::views::split(options.device, ',')) {
            const std::string name(std::string_view{part});
            if (name != kCpu) {
                if (const auto found = find_device(name); !found) return std::unexpected(found.error());
            }
            names.push_back(name);
        }
    }
    if (options.split || names.empty()) return names;
    if (options.main_gpu < 0 || options.main_gpu >= std::ssize(names))
        return fail(Error::Code::not_found,
                    fmt::format("there is no device number {}, only 0 to {}", options.main_gpu, std::ssize(names) - 1));
    return std::vector{names[static_cast<size_t>(options.main_gpu)]};
}

Result<std::vector<double>> shares_of(const DeviceOptions& options, const std::vector<std::string>& names) {
    if (!options.tensor_split.empty()) {
        const auto& shares = options.tensor_split;
        const bool possible = std::ranges::all_of(shares, [](double x) { return std::isfinite(x) && x >= 0; }) &&
                              std::ranges::any_of(shares, [](double x) { return x > 0; });
        if (!possible) return fail("the shares of the devices must be numbers of at least 0, and not all 0");
        if (shares.size() != names.size())
            return fail(
                fmt::format("{} shares are given for {} devices: give one for each", shares.size(), names.size()));
        return shares;
    }
    std::vector<double> shares;
    const auto devices = list_devices();
    for (const auto& name : names) {
        const auto device = std::ranges::find(devices, name, &DeviceInfo::name);
        shares.push_back(device == devices.end() ? 0 : static_cast<double>(device->free_bytes));
    }
    // A device that does not tell its memory gets as much as the others on average.
    if (std::ranges::contains(shares, 0.0)) shares.assign(names.size(), 1.0);
    return shares;
}

}  // namespace

std::vector<DeviceLayers> split_layers(const std::vector<std::string>& devices, int32_t n_layer, int32_t n_gpu_layers,
                                       const std::vector<double>& shares) {
    const int32_t n_all = n_layer + 1;
    const int32_t n_gpu = std::min(n_gpu_layers, n_all);
    std::vector<DeviceLayers> layers;
    if (n_gpu < n_all) layers.push_back({.device = {}, .n_layer = n_all - n_gpu});
    const double total = std::accumulate(shares.begin(), shares.end(), 0.0);
    double sum = 0;
    int32_t begin = 0;
    for (size_t i = 0; i < devices.size(); i++) {
        sum += shares[i];
        const bool is_last = i + 1 == devices.size();
        const auto end = is_last ? n_gpu : std::min(n_gpu, static_cast<int32_t>(std::lround(n_gpu * sum / total)));
        if (end > begin) layers.push_back({.device = devices[i] == kCpu ? "" : devices[i], .n_layer = end - begin});
        begin = end;
    }
    return layers;
}

Result<std::vector<DeviceLayers>> place_layers(const DeviceOptions& options, int32_t n_layer, uint64_t n_bytes) {
    using Layers = std::vector<DeviceLayers>;
    if (!options.rpc.empty()) {
        if (auto added = add_rpc_servers(options.rpc); !added) return std::unexpected(added.error());
    }
    if (options.device == "none" || options.n_gpu_layers == 0) return Layers();
    const auto names = chosen_devices(options, n_bytes);
    if (!names) return std::unexpected(names.error());
    if (names->empty()) return Layers();
    const auto shares = shares_of(options, *names);
    if (!shares) return std::unexpected(shares.error());
    auto layers = split_layers(*names, n_layer, options.n_gpu_layers.value_or(n_layer + 1), *shares);
    const bool only_cpu = layers.size() == 1 && layers.front().device.empty();
    return only_cpu ? Layers() : layers;
}

}  // namespace cake
