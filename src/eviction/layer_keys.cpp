#include "eviction/layer_keys.hpp"

#include <algorithm>

namespace cake {

std::vector<HeadSlots> held_slots(const KvStore& store, int32_t layer) {
    std::vector<HeadSlots> slots;
    for (const Run& run : store.runs(layer)) slots.emplace_back(run.begin, run.length);
    return slots;
}

void LayerKeys::set_window(int32_t n) {
    const auto shortest = std::ranges::min(slots, {}, &HeadSlots::length).length;
    window = static_cast<int32_t>(std::min<int64_t>(n, shortest));
}

std::vector<HeadSlots> LayerKeys::outside() const {
    auto result = slots;
    for (HeadSlots& head : result) head.length -= window;
    return result;
}

LayerKeys held_keys(const KvStore& store, int32_t layer, int32_t window) {
    LayerKeys keys{.buffer = store.buffer(layer), .slots = held_slots(store, layer), .positions = {}, .sums = {}};
    keys.set_window(window);
    for (int32_t head = 0; head < store.shape().n_head_kv; head++) {
        keys.positions.push_back(store.positions(layer, head));
        keys.sums.push_back(store.sums(layer, head));
    }
    return keys;
}

}  // namespace cake
