#include "memory/kv_buffer.hpp"

#include <cassert>
#include <cstring>

namespace cake {

namespace {

size_t v_offset(ggml_backend_buffer_type_t type, const KvShape& shape, int64_t n_slots) {
    return GGML_PAD(static_cast<size_t>(n_slots) * shape.row_bytes_k(), ggml_backend_buft_get_alignment(type));
}

}  // namespace

size_t kv_buffer_bytes(ggml_backend_buffer_type_t type, const KvShape& shape, int64_t n_slots) {
    return v_offset(type, shape, n_slots) + static_cast<size_t>(n_slots) * shape.row_bytes_v();
}

Result<KvBuffer> KvBuffer::allocate(Accountant& accountant, ggml_backend_buffer_type_t type, const KvShape& shape,
                                    int64_t n_slots, const char* what) {
    auto buffer =
        AccountedBuffer::allocate(accountant, MemoryUse::kv, type, kv_buffer_bytes(type, shape, n_slots), what);
    if (!buffer) return std::unexpected(buffer.error());

    KvBuffer result;
    result.buffer_ = std::move(*buffer);
    result.n_slots_ = n_slots;
    result.context_.reset(ggml_init({.mem_size = 2 * ggml_tensor_overhead(), .mem_buffer = nullptr, .no_alloc = true}));
    result.k_ = ggml_new_tensor_2d(result.context_.get(), shape.type_k, shape.head_dim_k, n_slots);
    auto* base = static_cast<std::byte*>(ggml_backend_buffer_get_base(result.buffer_.get()));
    ggml_backend_tensor_alloc(result.buffer_.get(), result.k_, base);
    if (shape.v_in_k) {
        result.v_ = ggml_view_2d(result.context_.get(), result.k_, shape.head_dim_v, n_slots, result.k_->nb[1], 0);
        ggml_backend_view_init(result.v_);
        return result;
    }
    result.v_ = ggml_new_tensor_2d(result.context_.get(), shape.type_v, shape.head_dim_v, n_slots);
    ggml_backend_tensor_alloc(result.buffer_.get(), result.v_, base + v_offset(type, shape, n_slots));
    return result;
}

namespace {

void move_rows(const ggml_tensor* from, ggml_tensor* to, std::span<const SlotMove> moves) {
    const size_t row = from->nb[1];
    const auto bytes = [&](int64_t n) { return static_cast<size_t>(n) * row; };
    if (ggml_backend_buffer_is_host(from->buffer) && ggml_backend_buffer_is_host(to->buffer)) {
        for (const auto& move : moves) {
            std::memmove(static_cast<std::byte*>(to->data) + bytes(move.to),
                         static_cast<const std::byte*>(from->data) + bytes(move.from), bytes(move.length));
        }
        return;
    }
    std::vector<std::byte> staging;
    for (const auto& move : moves) {
        staging.resize(bytes(move.length));
        ggml_backend_tensor_get(from, staging.data(), bytes(move.from), staging.size());
        ggml_backend_tensor_set(to, staging.data(), bytes(move.to), staging.size());
    }
}

}  // namespace

void move_slots(const KvBuffer& from, const KvBuffer& to, std::span<const SlotMove> moves) {
    for ([[maybe_unused]] const auto& move : moves) {
        assert(move.from >= 0 && move.from + move.length <= from.n_slots());
        assert(move.to >= 0 && move.to + move.length <= to.n_slots());
    }
    move_rows(from.k(), to.k(), moves);
    if (!from.v_in_k()) move_rows(from.v(), to.v(), moves);
}

}  // namespace cake
