#include "memory/kv_buffer.hpp"

#include <algorithm>
#include <cassert>

namespace cake {

namespace {

size_t v_offset(ggml_backend_buffer_type_t type, const KvShape& shape, int64_t n_slots) {
    return GGML_PAD(static_cast<size_t>(n_slots) * shape.row_bytes_k(), ggml_backend_buft_get_alignment(type));
}

}  // namespace

size_t kv_buffer_bytes(ggml_backend_buffer_type_t type, const KvShape& shape, int64_t n_slots) {
    return v_offset(type, shape, n_slots) + static_cast<size_t>(n_slots) * shape.row_bytes_v();
}

Result<KvBuffer> KvBuffer::allocate(Accountant& accountant, const DeviceMemory& memory, const KvShape& shape,
                                    int64_t n_slots, const char* what, size_t least_bytes) {
    ggml_backend_buffer_type_t type = memory.buffer_type;
    const size_t n_bytes = std::max(kv_buffer_bytes(type, shape, n_slots), least_bytes);
    auto buffer = AccountedBuffer::allocate(accountant, MemoryUse::kv, type, n_bytes, what);
    if (!buffer) return std::unexpected(buffer.error());

    // On a device, attention may read slots that nobody has written, although it does not use them.
    if (memory.backend != nullptr) ggml_backend_buffer_clear(buffer->get(), 0);
    KvBuffer whole;
    whole.memory_ = memory;
    whole.buffer_ = std::make_shared<const AccountedBuffer>(std::move(*buffer));
    auto result = whole.reshaped(shape, n_slots);
    for (const ggml_tensor* tensor : {result.k_, result.v_})
        if (auto fits = check_size(type, tensor, what); !fits) return std::unexpected(fits.error());
    return result;
}

KvBuffer KvBuffer::reshaped(const KvShape& shape, int64_t n_slots) const {
    ggml_backend_buffer_type_t type = memory_.buffer_type;
    assert(kv_buffer_bytes(type, shape, n_slots) <= size_bytes());
    KvBuffer result;
    result.memory_ = memory_;
    result.buffer_ = buffer_;
    result.n_slots_ = n_slots;
    result.context_.reset(ggml_init({.mem_size = 2 * ggml_tensor_overhead(), .mem_buffer = nullptr, .no_alloc = true}));
    result.k_ = ggml_new_tensor_2d(result.context_.get(), shape.type_k, shape.head_dim_k, n_slots);
    auto* base = static_cast<std::byte*>(ggml_backend_buffer_get_base(buffer_->get()));
    ggml_backend_tensor_alloc(buffer_->get(), result.k_, base);
    if (shape.v_in_k) {
        result.v_ = ggml_view_2d(result.context_.get(), result.k_, shape.head_dim_v, n_slots, result.k_->nb[1], 0);
        ggml_backend_view_init(result.v_);
        return result;
    }
    result.v_ = ggml_new_tensor_2d(result.context_.get(), shape.type_v, shape.head_dim_v, n_slots);
    ggml_backend_tensor_alloc(buffer_->get(), result.v_, base + v_offset(type, shape, n_slots));
    return result;
}

void move_slots(const KvBuffer& from, const KvBuffer& to, std::span<const RowMove> moves) {
    for ([[maybe_unused]] const auto& move : moves) {
        assert(move.from >= 0 && move.from + move.length <= from.n_slots());
        assert(move.to >= 0 && move.to + move.length <= to.n_slots());
    }
    move_rows(to.memory(), from.k(), to.k(), moves);
    if (!from.v_in_k()) move_rows(to.memory(), from.v(), to.v(), moves);
}

}  // namespace cake
