#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numbers>
#include <span>

namespace cake {

/// Slots that are packed and multiplied at a time.
constexpr size_t kBlock = 128;
/// Columns of the widest panel.
constexpr size_t kWidest = 32;

constexpr float kLog2E = std::numbers::log2e_v<float>;
constexpr float kNothing = -std::numeric_limits<float>::infinity();

/// What queries are multiplied by: logits come out to the base 2, or where they are to be capped, as tanh takes them.
constexpr float query_scale(float scale, float softcap) {
    return softcap > 0 ? scale / softcap : scale * kLog2E;
}

constexpr int64_t divide_up(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

/// A size that holds `n` in panels of any width.
constexpr size_t widest(size_t n) {
    return (n + kWidest - 1) / kWidest * kWidest;
}
constexpr size_t widest(int32_t n) {
    return widest(static_cast<size_t>(n));
}

/// Lays parts out one behind the other; without a base it counts alone.
struct Layout {
    float* base = nullptr;
    size_t n_floats = 0;

    void place(float*& part, size_t size) {
        part = base == nullptr ? nullptr : base + n_floats;
        n_floats += size;
    }
};

/// Where the part of a thread begins in scratch that has kWidest floats to spare: vectors are aligned to their size.
inline float* part_of_thread(std::span<float> scratch, size_t n_floats, int32_t thread) {
    constexpr uintptr_t kAlignment = 64;
    const auto address = reinterpret_cast<uintptr_t>(scratch.data());
    const size_t offset = (kAlignment - address % kAlignment) % kAlignment / sizeof(float);
    return scratch.data() + offset + static_cast<size_t>(thread) * n_floats;
}

/// How many slots of `length` a task takes, where there should be `n_tasks`: few enough that no thread waits long for
/// the last, and enough that its beginning and end are worth it.
constexpr int64_t chunk_of_slots(int64_t length, int64_t n_tasks) {
    constexpr int64_t kFewest = 512;
    const int64_t n_blocks = divide_up(divide_up(length, std::max<int64_t>(n_tasks, 1)), int64_t{kBlock});
    return std::max(kFewest, n_blocks * int64_t{kBlock});
}

}  // namespace cake
