#include "cli/device_flags.hpp"

#include <fmt/format.h>

#include <charconv>
#include <limits>
#include <optional>
#include <ranges>
#include <string_view>

#include "cli/parse.hpp"

namespace cake::cli {

namespace {

/// Reads a plain decimal number that is all of `text`.
template <typename Number>
std::optional<Number> number_of(std::string_view text) {
    Number number{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc() || end != text.data() + text.size() || !(number >= 0)) return std::nullopt;
    return number;
}

std::optional<int32_t> gpu_layers_in(const std::string& text) {
    if (text == "auto") return std::nullopt;
    if (text == "all") return std::numeric_limits<int32_t>::max();
    const auto n = number_of<int32_t>(text);
    if (!n)
        throw CLI::ValidationError("--gpu-layers", fmt::format("\"{}\" is not a number of layers, all or auto", text));
    return n;
}

std::vector<double> shares_in(const std::string& text) {
    std::vector<double> shares;
    for (const auto part : std::views::split(text, ',')) {
        const auto share = number_of<double>(std::string_view{part});
        if (!share)
            throw CLI::ValidationError("--tensor-split",
                                       fmt::format("\"{}\" is not a list of shares, such as 3,1", text));
        shares.push_back(*share);
    }
    return shares;
}

/// An empty value is often a variable that is not set.
std::string is_given(const std::string& text) {
    return text.empty() ? "the value is empty: leave the flag out, or name a device" : "";
}

/// Ends the program with the list, as --version ends it.
[[noreturn]] void show_devices(const DeviceOptions& options) {
    if (!options.rpc.empty()) {
        if (auto added = add_rpc_servers(options.rpc); !added)
            throw CLI::ValidationError("--rpc", added.error().message);
    }
    std::string text;
    for (const auto& device : list_devices()) {
        text += fmt::format("{}{}: {}, {} free of {}", text.empty() ? "" : "\n", device.name, device.description,
                            format_bytes(device.free_bytes), format_bytes(device.total_bytes));
    }
    throw CLI::CallForVersion(text.empty() ? "no device but the CPU" : text, 0);
}

}  // namespace

void add_devices(CLI::App& app, DeviceOptions& devices) {
    constexpr const char* kDevices = "Devices";
    app.add_option(
           "--device", devices.device,
           "devices of --list-devices that compute the layers, also -dev; none: the CPU (default: the first GPU "
           "that has room for the model, or all together)")
        ->type_name("NAME[,NAME …]")
        ->check(is_given)
        ->group(kDevices);
    app.add_option_function<std::string>(
           "--gpu-layers,--n-gpu-layers",
           [&devices](const std::string& text) { devices.n_gpu_layers = gpu_layers_in(text); },
           "layers at the end of the model that devices compute, also -ngl: a number (the output counts as one more), "
           "all, "
           "or auto: all if the devices have room (default)")
        ->type_name("LAYERS")
        ->group(kDevices);
    app.add_option_function<std::string>(
           "--tensor-split", [&devices](const std::string& text) { devices.tensor_split = shares_in(text); },
           "shares of these layers that the devices get, also -ts, such as 3,1 (default: as their free memory is)")
        ->type_name("SHARES")
        ->check(is_given)
        ->group(kDevices);
    app.add_option_function<std::string>(
           "--split-mode",
           [&devices](const std::string& mode) {
               devices.split_mode = mode == "layer" ? SplitMode::layer : SplitMode::none;
           },
           "layer: the devices share the layers; none: --main-gpu computes all of them; also -sm")
        ->type_name("MODE")
        ->check([](const std::string& mode) {
            return mode == "none" || mode == "layer" ? ""
                                                     : "layers can be split (layer), but not rows: use layer or none";
        })
        ->default_str("layer")
        ->group(kDevices);
    app.add_option("--main-gpu", devices.main_gpu, "number of the device for --split-mode none, also -mg")
        ->type_name("N")
        ->check(CLI::Range(0, 1 << 16))
        ->capture_default_str()
        ->group(kDevices);
    app.add_option("--rpc", devices.rpc,
                   "other machines, on which ggml-rpc-server runs; only in a network that you trust, because ggml "
                   "encrypts nothing")
        ->type_name("HOST:PORT[,…]")
        ->check(is_given)
        ->trigger_on_parse()
        ->group(kDevices);
    app.add_flag_callback(
           "--list-devices", [&devices] { show_devices(devices); }, "list the devices, and end")
        ->trigger_on_parse()
        ->group(kDevices);
}

std::string text_of(const std::vector<DeviceLayers>& layers) {
    std::string text;
    int32_t begin = 0;
    for (size_t i = 0; i < layers.size(); i++) {
        const bool is_last = i + 1 == layers.size();
        const int32_t n = layers[i].n_layer - (is_last ? 1 : 0);
        text += i == 0 ? "layers " : ", ";
        if (n > 1) text += fmt::format("{} to {}", begin, begin + n - 1);
        if (n == 1) text += fmt::format("{}", begin);
        if (is_last) text += n > 0 ? " and the output" : "the output";
        text += fmt::format(" on {}", layers[i].device.empty() ? "the CPU" : layers[i].device);
        begin += n;
    }
    return text;
}

}  // namespace cake::cli
