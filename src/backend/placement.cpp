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

/// True if nothing says that devices are to be used.
bool leaves_choice(const DeviceOptions& options) {
    return options.n_gpu_layers.value_or(0) == 0 && options.tensor_split.empty() &&
           options.split_mode == SplitMode::layer && options.rpc.empty();
}

uint64_t free_bytes(const std::string& name) {
    ggml_backend_dev_t device =
        name == kCpu ? ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU) : find_device(name).value_or(nullptr);
    size_t n_free = 0;
    size_t n_total = 0;
    if (device != nullptr) ggml_backend_dev_memory(device, &n_free, &n_total);
    return n_free;
}

/// The first device that has room for the weights and some hundred MiB besides, or all if they have together.
std::vector<std::string> devices_with_room(uint64_t n_bytes) {
    auto names = names_of_cards();
    uint64_t n_free = 0;
    for (const auto& name : names) {
        const uint64_t n = free_bytes(name);
        if (n > n_bytes + kRoomBesideWeights) return {name};
        n_free += n - std::min(n, kRoomBesideWeights);
    }
    return n_free > n_bytes ? names : std::vector<std::string>();
}

Result<std::vector<std::string>> chosen_devices(const DeviceOptions& options, uint64_t n_bytes) {
    std::vector<std::string> names;
    if (options.device.empty()) {
        names = leaves_choice(options) ? devices_with_room(n_bytes) : names_of_cards();
        if (names.empty() && !leaves_choice(options) && options.n_gpu_layers != 0)
            return fail(Error::Code::not_found, "there is no device here that could compute layers (--list-devices)");
    } else {
        for (const auto part : std::views::split(options.device, ',')) {
            const std::string name(std::string_view{part});
            if (name != kCpu) {
                if (const auto found = find_device(name); !found) return std::unexpected(found.error());
                if (std::ranges::contains(names, name))
                    return fail(fmt::format("the device {} is named twice: name each once", name));
            }
            names.push_back(name);
        }
    }
    return names;
}

Result<std::vector<std::string>> main_device(const std::vector<std::string>& names, int32_t number) {
    if (number < 0 || number >= std::ssize(names))
        return fail(Error::Code::not_found,
                    fmt::format("there is no device number {}, only 0 to {}", number, std::ssize(names) - 1));
    return std::vector{names[static_cast<size_t>(number)]};
}

Result<std::vector<double>> shares_of(const DeviceOptions& options, const std::vector<std::string>& names) {
    if (!options.tensor_split.empty()) {
        const auto& shares = options.tensor_split;
        const bool possible = std::ranges::all_of(shares, [](double x) { return std::isfinite(x) && x >= 0; }) &&
                              std::ranges::any_of(shares, [](double x) { return x > 0; });
        if (!possible) return fail("the shares of the devices must be numbers of at least 0, and not all 0");
        if (shares.size() != names.size())
            return fail(fmt::format("the number of shares is {} and that of devices {}: give one for each",
                                    shares.size(), names.size()));
        return shares;
    }
    std::vector<double> shares;
    for (const auto& name : names) shares.push_back(static_cast<double>(free_bytes(name)));
    // A device that does not tell its memory gets as much as the others on average.
    const auto n_known = std::ranges::count_if(shares, [](double x) { return x > 0; });
    const double sum = std::accumulate(shares.begin(), shares.end(), 0.0);
    std::ranges::replace(shares, 0.0, n_known > 0 ? sum / static_cast<double>(n_known) : 1.0);
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
        const std::string device = devices[i] == kCpu ? "" : devices[i];
        if (end > begin && !layers.empty() && layers.back().device == device)
            layers.back().n_layer += end - begin;
        else if (end > begin)
            layers.push_back({.device = device, .n_layer = end - begin});
        begin = end;
    }
    return layers;
}

Result<std::vector<DeviceLayers>> place_layers(const DeviceOptions& options, int32_t n_layer, uint64_t n_bytes) {
    using Layers = std::vector<DeviceLayers>;
    const bool splits = options.split_mode == SplitMode::layer;
    if (splits && options.main_gpu != 0)
        return fail("a main device has an effect only if the layers are not split (--split-mode none)");
    if (!splits && !options.tensor_split.empty()) return fail("one device computes all layers and takes no shares");
    if (options.device == "none") return Layers();
    if (!options.rpc.empty()) {
        if (auto added = add_rpc_servers(options.rpc); !added) return std::unexpected(added.error());
    }
    auto names = chosen_devices(options, n_bytes);
    if (!names) return std::unexpected(names.error());
    if (names->empty()) return Layers();
    if (!splits) names = main_device(*names, options.main_gpu);
    if (!names) return std::unexpected(names.error());
    const auto shares = shares_of(options, *names);
    if (!shares) return std::unexpected(shares.error());
    const int32_t n_gpu_layers = options.n_gpu_layers.value_or(n_layer + 1);
    if (n_gpu_layers == 0) return Layers();
    auto layers = split_layers(*names, n_layer, n_gpu_layers, *shares);
    if (std::ranges::count(layers, "", &DeviceLayers::device) > 1)
        return fail(
            "the CPU would compute layers before and after those of another device: name it first and once, or leave "
            "it out");
    const bool only_cpu = layers.size() == 1 && layers.front().device.empty();
    return only_cpu ? Layers() : layers;
}

}  // namespace cake
