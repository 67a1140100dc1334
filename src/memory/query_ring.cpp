#include "memory/query_ring.hpp"

#include <algorithm>
#include <cassert>

namespace cake {

Result<QueryRing> QueryRing::create(Accountant& accountant, ggml_backend_buffer_type_t type,
                                    std::span<const int32_t> layers, int64_t width, int64_t window) {
    const size_t layer_bytes = GGML_PAD(ggml_row_size(GGML_TYPE_F32, width) * static_cast<size_t>(window),
                                        ggml_backend_buft_get_alignment(type));
    auto buffer = AccountedBuffer::allocate(accountant, MemoryUse::compute, type, layer_bytes * layers.size(),
                                            "the window's queries");
    if (!buffer) return std::unexpected(buffer.error());
    QueryRing ring;
    ring.buffer_ = std::move(*buffer);
    ring.n_rows_ = window;
    ring.context_.reset(
        ggml_init({.mem_size = layers.size() * ggml_tensor_overhead(), .mem_buffer = nullptr, .no_alloc = true}));
    auto* next = static_cast<std::byte*>(ggml_backend_buffer_get_base(ring.buffer_.get()));
    for (const int32_t layer : layers) {
        auto* tensor = ggml_new_tensor_2d(ring.context_.get(), GGML_TYPE_F32, width, window);
        ggml_backend_tensor_alloc(ring.buffer_.get(), tensor, next);
        next += layer_bytes;
        ring.layers_.resize(static_cast<size_t>(layer) + 1);
        ring.layers_.back() = tensor;
    }
    return ring;
}

ggml_tensor* QueryRing::layer(int32_t layer) const {
    const auto i = static_cast<size_t>(layer);
    return i < layers_.size() ? layers_[i] : nullptr;
}

void QueryRing::push(int64_t n) {
    next_ = static_cast<int32_t>((next_ + n) % n_rows_);
    n_filled_ = static_cast<int32_t>(std::min(n_filled_ + n, n_rows_));
}

void QueryRing::pop(int64_t n) {
    n = std::min<int64_t>(n, n_filled_);
    next_ = static_cast<int32_t>((next_ - n + n_rows_) % n_rows_);
    n_filled_ -= static_cast<int32_t>(n);
}

void QueryRing::copy(const QueryRing& from) {
    for (size_t i = 0; i < layers_.size(); i++)
        if (layers_[i] != nullptr) ggml_backend_tensor_copy(from.layers_[i], layers_[i]);
    restore(from.n_filled_, from.next_);
}

void QueryRing::restore(int32_t n_filled, int32_t next) {
    assert(n_filled >= 0 && n_filled <= n_rows_ && next >= 0 && next < n_rows_);
    n_filled_ = n_filled;
    next_ = next;
}

}  // namespace cake
