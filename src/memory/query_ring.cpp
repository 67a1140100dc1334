#include "memory/query_ring.hpp"

#include <algorithm>
#include <cassert>

namespace cake {

Result<QueryRing> QueryRing::create(Accountant& accountant, const LayerMemory& memory, std::span<const int32_t> layers,
                                    int64_t width, int64_t window) {
    QueryRing ring;
    ring.n_rows_ = window;
    ring.context_.reset(
        ggml_init({.mem_size = layers.size() * ggml_tensor_overhead(), .mem_buffer = nullptr, .no_alloc = true}));
    for (size_t i = 0; i < memory.n_parts(); i++) {
        const auto of_part = layers.first(static_cast<size_t>(memory.n_layers(i, layers)));
        layers = layers.subspan(of_part.size());
        if (auto added = ring.add(accountant, memory.part(i).buffer_type, of_part, width); !added)
            return std::unexpected(added.error());
    }
    return ring;
}

Result<void> QueryRing::add(Accountant& accountant, ggml_backend_buffer_type_t type, std::span<const int32_t> layers,
                            int64_t width) {
    if (layers.empty()) return {};
    const size_t layer_bytes = GGML_PAD(ggml_row_size(GGML_TYPE_F32, width) * static_cast<size_t>(n_rows_),
                                        ggml_backend_buft_get_alignment(type));
    auto buffer = AccountedBuffer::allocate(accountant, MemoryUse::compute, type, layer_bytes * layers.size(),
                                            "the window's queries");
    if (!buffer) return std::unexpected(buffer.error());
    auto* next = static_cast<std::byte*>(ggml_backend_buffer_get_base(buffer->get()));
    for (const int32_t layer : layers) {
        auto* tensor = ggml_new_tensor_2d(context_.get(), GGML_TYPE_F32, width, n_rows_);
        ggml_backend_tensor_alloc(buffer->get(), tensor, next);
        next += layer_bytes;
        layers_.resize(static_cast<size_t>(layer) + 1);
        layers_.back() = tensor;
    }
    buffers_.push_back(std::move(*buffer));
    return {};
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
