#include "eviction/sliding_window.hpp"

#include <algorithm>
#include <numeric>
#include <vector>

namespace cake {

namespace {

std::vector<int32_t> range(int32_t begin, int32_t end) {
    std::vector<int32_t> numbers(static_cast<size_t>(end - begin));
    std::iota(numbers.begin(), numbers.end(), begin);
    return numbers;
}

}  // namespace

void keep_window(const ManagedCache& managed, int32_t layer, const LayerKeys& keys) {
    auto& windows = managed.cache.sliding;
    for (size_t i = 0; i < keys.slots.size(); i++) {
        const auto head = static_cast<int32_t>(i);
        const auto length = static_cast<int32_t>(keys.slots[i].length);
        const int32_t first = std::max(length - managed.rules.layout.n_swa, 0);
        windows.keep(layer, head, {});
        windows.load(layer, head, keys.buffer, keys.slots[i].begin, range(first, length));
        std::ranges::copy(keys.positions[i].subspan(static_cast<size_t>(first)),
                          windows.positions(layer, head).begin());
        std::ranges::fill(windows.scores(layer, head), 0.0F);
        std::ranges::fill(windows.sums(layer, head), 0.0F);
    }
}

void slide_window(const ManagedCache& managed, int32_t layer) {
    for (int32_t head = 0; head < managed.rules.layout.sliding.n_head_kv; head++) {
        const Run run = managed.cache.sliding.runs(layer)[static_cast<size_t>(head)];
        if (run.length < run.capacity) return;  // the runs of all heads have the same length
        managed.cache.sliding.keep(layer, head,
                                   range(std::max(run.length - managed.rules.layout.n_swa + 1, 0), run.length));
    }
}

}  // namespace cake
