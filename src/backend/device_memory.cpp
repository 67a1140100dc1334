#include "backend/device_memory.hpp"

#include <ggml-cpp.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <vector>

namespace cake {

namespace {

constexpr int64_t kMaxRows = 4096;  // limit for one graph, which bounds the memory of the rows in between

void move_in_host_memory(const ggml_tensor* from, ggml_tensor* to, std::span<const RowMove> moves) {
    const size_t row = from->nb[1];
    const auto bytes = [&](int64_t n) { return static_cast<size_t>(n) * row; };
    for (const auto& move : moves) {
        std::memmove(static_cast<std::byte*>(to->data) + bytes(move.to),
                     static_cast<const std::byte*>(from->data) + bytes(move.from), bytes(move.length));
    }
}

/// The order in which the parts of a move can be made: none overwrites rows that a later one reads.
void append_parts(std::vector<RowMove>& parts, const RowMove& move) {
    const auto part = [&](int64_t begin) {
        return RowMove{
            .from = move.from + begin, .to = move.to + begin, .length = std::min(kMaxRows, move.length - begin)};
    };
    if (move.to <= move.from) {
        for (int64_t begin = 0; begin < move.length; begin += kMaxRows) parts.push_back(part(begin));
    } else {
        const int64_t last = (move.length - 1) / kMaxRows * kMaxRows;
        for (int64_t begin = last; begin >= 0; begin -= kMaxRows) parts.push_back(part(begin));
    }
}

/// The rows of a matrix of any type as rows of 4-byte numbers, which no operation converts.
ggml_tensor* raw_rows(ggml_context* context, const ggml_tensor* matrix) {
    ggml_tensor* raw =
        ggml_new_tensor_2d(context, GGML_TYPE_F32, static_cast<int64_t>(matrix->nb[1] / sizeof(float)), matrix->ne[1]);
    ggml_backend_tensor_alloc(matrix->buffer, raw, matrix->data);
    return raw;
}

/// Rows whose size is no multiple of 4 bytes go through the host, and all rows if the device has no memory for copies.
void move_through_host(const ggml_tensor* from, ggml_tensor* to, std::span<const RowMove> moves) {
    std::vector<std::byte> rows;
    for (const auto& move : moves) {
        rows.resize(static_cast<size_t>(move.length) * from->nb[1]);
        ggml_backend_tensor_get(from, rows.data(), static_cast<size_t>(move.from) * from->nb[1], rows.size());
        ggml_backend_tensor_set(to, rows.data(), static_cast<size_t>(move.to) * to->nb[1], rows.size());
    }
}

/// Reads all rows of `parts` and then writes them.
void move_together(const DeviceMemory& memory, const ggml_tensor* from, ggml_tensor* to,
                   std::span<const RowMove> parts) {
    std::vector<int32_t> sources;
    std::vector<int64_t> targets;
    for (const auto& part : parts) {
        for (int64_t i = 0; i < part.length; i++) {
            sources.push_back(static_cast<int32_t>(part.from + i));
            targets.push_back(part.to + i);
        }
    }
    constexpr size_t kTensors = 8;
    const ggml_context_ptr rows(
        ggml_init({.mem_size = 2 * ggml_tensor_overhead(), .mem_buffer = nullptr, .no_alloc = true}));
    const ggml_context_ptr context(
        ggml_init({.mem_size = kTensors * ggml_tensor_overhead() + ggml_graph_overhead_custom(kTensors, false),
                   .mem_buffer = nullptr,
                   .no_alloc = true}));
    const auto n = static_cast<int64_t>(sources.size());
    ggml_tensor* source_rows = ggml_new_tensor_1d(context.get(), GGML_TYPE_I32, n);
    ggml_tensor* target_rows = ggml_new_tensor_1d(context.get(), GGML_TYPE_I64, n);
    ggml_tensor* taken = ggml_get_rows(context.get(), raw_rows(rows.get(), from), source_rows);
    ggml_tensor* put = ggml_set_rows(context.get(), raw_rows(rows.get(), to), taken, target_rows);
    ggml_cgraph* graph = ggml_new_graph_custom(context.get(), kTensors, false);
    ggml_build_forward_expand(graph, put);
    const ggml_backend_buffer_ptr buffer(ggml_backend_alloc_ctx_tensors(context.get(), memory.backend));
    if (!buffer) return move_through_host(from, to, parts);
    ggml_backend_tensor_set(source_rows, sources.data(), 0, sources.size() * sizeof(sources[0]));
    ggml_backend_tensor_set(target_rows, targets.data(), 0, targets.size() * sizeof(targets[0]));
    ggml_backend_graph_compute(memory.backend, graph);
}

}  // namespace

void move_rows(const DeviceMemory& memory, const ggml_tensor* from, ggml_tensor* to, std::span<const RowMove> moves) {
    if (memory.backend == nullptr) return move_in_host_memory(from, to, moves);
    const std::scoped_lock lock(*memory.turn);
    if (from->nb[1] % sizeof(float) != 0) return move_through_host(from, to, moves);
    std::vector<RowMove> parts;
    for (const auto& move : moves)
        if (move.length > 0) append_parts(parts, move);
    for (size_t begin = 0; begin < parts.size();) {
        size_t end = begin;
        for (int64_t n = 0; end < parts.size() && (end == begin || n + parts[end].length <= kMaxRows); end++)
            n += parts[end].length;
        move_together(memory, from, to, std::span(parts).subspan(begin, end - begin));
        begin = end;
    }
}

}  // namespace cake
