#pragma once

#include <ggml-backend.h>

#include <cstdint>
#include <mutex>
#include <span>

namespace cake {

/// Devices want a view to begin at a multiple of some bytes. Rows of whole 2-byte numbers do so if their number is a
/// multiple of this: they begin at multiples of 64 bytes.
constexpr int64_t kRowAlignment = 32;

/// Where buffers are allocated. Without a backend, it is host memory; otherwise, the backend moves rows within it, and
/// threads that share the backend take turns.
struct DeviceMemory {
    // NOLINTNEXTLINE(google-explicit-constructor): a type of host memory says it all
    DeviceMemory(ggml_backend_buffer_type_t type) : buffer_type(type) {}
    DeviceMemory(ggml_backend_buffer_type_t type, ggml_backend_t mover, std::mutex* mutex)
        : buffer_type(type), backend(mover), turn(mutex) {}

    ggml_backend_buffer_type_t buffer_type;
    ggml_backend_t backend = nullptr;
    std::mutex* turn = nullptr;
};

/// Moves `length` rows from `from` to `to`.
struct RowMove {
    int64_t from;
    int64_t to;
    int64_t length;
};

/// Copies rows of the matrix `from` to rows of `to`, which has the same type and width, in the order of `moves`. The
/// rows stay on the device. Within one tensor, source and target of a move may overlap.
void move_rows(const DeviceMemory& memory, const ggml_tensor* from, ggml_tensor* to, std::span<const RowMove> moves);

}  // namespace cake
