#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "backend/device_memory.hpp"

namespace cake {

/// Where the layers of a model keep what they hold. Consecutive layers share a part: the memory of a device.
class LayerMemory {
  public:
    struct Part {
        int32_t end;  // number of the first layer after the part
        DeviceMemory memory;
    };

    /// One memory for all layers.
    // NOLINTNEXTLINE(google-explicit-constructor): most models are on one device
    LayerMemory(DeviceMemory memory) : LayerMemory({{.end = std::numeric_limits<int32_t>::max(), .memory = memory}}) {}
    // NOLINTNEXTLINE(google-explicit-constructor)
    LayerMemory(ggml_backend_buffer_type_t type) : LayerMemory(DeviceMemory(type)) {}
    /// `parts`: in the order of their layers, which begin with 0.
    explicit LayerMemory(std::vector<Part> parts) : parts_(std::move(parts)) {}

    size_t n_parts() const { return parts_.size(); }
    const DeviceMemory& part(size_t index) const { return parts_[index].memory; }
    /// Index of the part to which a layer belongs. Layers after the last part belong to it.
    size_t part_of(int32_t layer) const {
        const auto found = std::ranges::upper_bound(parts_, layer, {}, &Part::end);
        return std::min<size_t>(static_cast<size_t>(found - parts_.begin()), parts_.size() - 1);
    }
    /// The number of `layers`, ascending, that belong to a part.
    int32_t n_layers(size_t index, std::span<const int32_t> layers) const {
        return static_cast<int32_t>(
            std::ranges::count_if(layers, [&](int32_t layer) { return part_of(layer) == index; }));
    }

  private:
    std::vector<Part> parts_;
};

}  // namespace cake
