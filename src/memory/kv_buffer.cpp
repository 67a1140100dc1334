#include "memory/kv_buffer.hpp"

#include <algorithm>
#include <cassert>

namespace cake {

namespace {

/// K and V of a buffer, without memory. If V is in K, it is a view.
struct Tensors {
    ggml_context_ptr context;
    ggml_tensor* k = nullptr;
    ggml_tensor* v = nullptr;
};

Tensors make_tensors(const KvShape& shape, int64_t n_slots) {
    Tensors result;
    result.context.reset(ggml_init({.mem_size = 2 * ggml_tensor_overhead(), .mem_buffer = nullptr, .no_alloc = true}));
    auto* context = result.context.get();
    result.k = ggml_new_tensor_2d(context, shape.type_k, shape.head_dim_k, n_slots);
    result.v = shape.v_in_k ? ggml_view_2d(context, result.k, shape.head_dim_v, n_slots, result.k->nb[1], 0)
                            : ggml_new_tensor_2d(context, shape.type_v, shape.head_dim_v, n_slots);
    return result;
}

/// Bytes up to the beginning of V. Devices may need some behind a quantised tensor.
size_t v_offset(ggml_backend_buffer_type_t type, const Tensors& tensors) {
    return GGML_PAD(ggml_backend_buft_get_alloc_size(type, tensors.k), ggml_backend_buft_get_alignment(type));
}

size_t buffer_bytes(ggml_backend_buffer_type_t type, const Tensors& tensors) {
    const size_t of_v = tensors.v->view_src != nullptr ? 0 : ggml_backend_buft_get_alloc_size(type, tensors.v);
    return v_offset(type, tensors) + of_v;
}

Result<Tensors> make_checked_tensors(ggml_backend_buffer_type_t type, const KvShape& shape, int64_t n_slots,
                                     const char* what) {
    auto tensors = make_tensors(shape, n_slots);
    for (const ggml_tensor* tensor : {tensors.k, tensors.v})
        if (auto fits = check_size(type, tensor, what); !fits) return std::unexpected(fits.error());
    return tensors;
}

}  // namespace

size_t kv_buffer_bytes(ggml_backend_buffer_type_t type, const KvShape& shape, int64_t n_slots) {
    return buffer_bytes(type, make_tensors(shape, n_slots));
}

Result<KvBuffer> KvBuffer::allocate(Accountant& accountant, const DeviceMemory& memory, const KvShape& shape,
                                    int64_t n_slots, const char* what, size_t least_bytes) {
    ggml_backend_buffer_type_t type = memory.buffer_type;
    const auto tensors = make_checked_tensors(type, shape, n_slots, what);
    if (!tensors) return std::unexpected(tensors.error());
    const size_t n_bytes = std::max(buffer_bytes(type, *tensors), least_bytes);
    auto buffer = AccountedBuffer::allocate(accountant, MemoryUse::kv, type, n_bytes, what);
    if (!buffer) return std::unexpected(buffer.error());

    // On a device, attention may read slots that nobody has written, although it does not use them.
    if (memory.backend != nullptr) ggml_backend_buffer_clear(buffer->get(), 0);
    KvBuffer whole;
    whole.memory_ = memory;
    whole.buffer_ = std::make_shared<const AccountedBuffer>(std::move(*buffer));
    return whole.reshaped(shape, n_slots, what);
}

Result<KvBuffer> KvBuffer::reshaped(const KvShape& shape, int64_t n_slots, const char* what) const {
    ggml_backend_buffer_type_t type = memory_.buffer_type;
    auto tensors = make_checked_tensors(type, shape, n_slots, what);
    if (!tensors) return std::unexpected(tensors.error());
    assert(buffer_bytes(type, *tensors) <= size_bytes());
    auto* base = static_cast<std::byte*>(ggml_backend_buffer_get_base(buffer_->get()));
    ggml_backend_tensor_alloc(buffer_->get(), tensors->k, base);
    if (shape.v_in_k)
        ggml_backend_view_init(tensors->v);
    else
        ggml_backend_tensor_alloc(buffer_->get(), tensors->v, base + v_offset(type, *tensors));
    KvBuffer result;
    result.memory_ = memory_;
    result.buffer_ = buffer_;
    result.n_slots_ = n_slots;
    result.context_ = std::move(tensors->context);
    result.k_ = tensors->k;
    result.v_ = tensors->v;
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
