#include "backend/devices.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <mutex>
#include <ranges>
#include <string_view>

namespace cake {

namespace {

bool is_gpu(ggml_backend_dev_t device) {
    const auto type = ggml_backend_dev_type(device);
    return type == GGML_BACKEND_DEVICE_TYPE_GPU || type == GGML_BACKEND_DEVICE_TYPE_IGPU;
}

bool is_remote(ggml_backend_dev_t device) {
    return std::string_view(ggml_backend_dev_name(device)).starts_with("RPC");
}

/// The devices of list_devices(). Accelerators such as BLAS have no memory of their own and are left out.
std::vector<ggml_backend_dev_t> devices() {
    load_backends();
    std::vector<ggml_backend_dev_t> found;
    for (size_t i = 0; i < ggml_backend_dev_count(); i++)
        if (is_gpu(ggml_backend_dev_get(i))) found.push_back(ggml_backend_dev_get(i));
    std::ranges::stable_partition(found, is_remote);  // so that the output is computed here
    return found;
}

DeviceInfo describe(ggml_backend_dev_t device) {
    size_t n_free = 0;
    size_t n_total = 0;
    ggml_backend_dev_memory(device, &n_free, &n_total);
    return {.name = ggml_backend_dev_name(device),
            .description = ggml_backend_dev_description(device),
            .free_bytes = n_free,
            .total_bytes = n_total};
}

}  // namespace

void load_backends() {
    static std::once_flag loaded;
    std::call_once(loaded, [] {
        ggml_log_set([](ggml_log_level, const char*, void*) {}, nullptr);  // they describe every device
        ggml_backend_load_all();
    });
}

Result<ggml_backend_dev_t> find_device(const std::string& name) {
    for (ggml_backend_dev_t device : devices())
        if (ggml_backend_dev_name(device) == name) return device;
    std::string names;
    for (const auto& device : list_devices()) names += fmt::format("{} or ", device.name);
    return fail(Error::Code::not_found,
                fmt::format("there is no device \"{}\" here: use {}none (the CPU)", name, names));
}

std::vector<std::string> names_of_cards() {
    std::vector<std::string> names;
    std::vector<std::string> cards;
    for (ggml_backend_dev_t device : devices()) {
        ggml_backend_dev_props props{};
        ggml_backend_dev_get_props(device, &props);
        const std::string card = props.device_id == nullptr ? "" : props.device_id;  // its address on the bus
        if (!card.empty() && std::ranges::contains(cards, card)) continue;
        cards.push_back(card);
        names.emplace_back(ggml_backend_dev_name(device));
    }
    return names;
}

std::vector<DeviceInfo> list_devices() {
    return devices() | std::views::transform(describe) | std::ranges::to<std::vector>();
}

}  // namespace cake
