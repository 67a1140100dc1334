#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numbers>
#include <span>

namespace cake {

/// Number of slots that are packed and multiplied at a time.
constexpr size_t kBlock = 128;
/// Number of columns of the widest panel.
constexpr size_t kWidest = 32;

constexpr float kLog2E = std::numbers::log2e_v<float>;
constexpr float kNothing = -std::numeric_limits<float>::infinity();

/// Factor of the queries. It makes the logits come out to the base 2 or, with a softcap, as the argument of tanh.
constexpr float query_scale(float scale, float softcap) {
    return softcap > 0 ? scale / softcap : scale * kLog2E;
}

constexpr int64_t divide_up(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

/// `n`, rounded up to a multiple of every panel width.
constexpr size_t widest(size_t n) {
    return (n + kWidest - 1) / kWidest * kWidest;
}
constexpr size_t widest(int32_t n) {
    return widest(static_cast<size_t>(n));
}

/// Lays out arrays one after another. Without a base, it only counts their size.
struct Layout {
    float* base = nullptr;
    size_t n_floats = 0;

    void place(float*& part, size_t size) {
        part = base == nullptr ? nullptr : base + n_floats;
        n_floats += size;
    }
};

/// Start of a thread's part of the scratch memory, aligned for vectors. The scratch memory has kWidest extra floats for
/// this.
inline float* part_of_thread(std::span<float> scratch, size_t n_floats, int32_t thread) {
    constexpr uintptr_t kAlignment = 64;
    const auto address = reinterpret_cast<uintptr_t>(scratch.data());
    const size_t offset = (kAlignment - address % kAlignment) % kAlignment / sizeof(float);
    return scratch.data() + offset + static_cast<size_t>(thread) * n_floats;
}

/// Number of slots per task if `length` slots are to be split into about `n_tasks` tasks. It is at least 512, so that
/// the overhead of a task stays small.
constexpr int64_t chunk_of_slots(int64_t length, int64_t n_tasks) {
    constexpr int64_t kFewest = 512;
    const int64_t n_blocks = divide_up(divide_up(length, std::max<int64_t>(n_tasks, 1)), int64_t{kBlock});
    return std::max(kFewest, n_blocks * int64_t{kBlock});
}

}  // namespace cake
