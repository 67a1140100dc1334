#include "memory/recurrent_states.hpp"

namespace cake {

Result<RecurrentStates> RecurrentStates::create(Accountant& accountant, const LayerMemory& memory,
                                                std::span<const int32_t> layers, int64_t n_state) {
    RecurrentStates result;
    if (layers.empty()) return result;
    result.layers_.assign(layers.begin(), layers.end());
    result.context_.reset(
        ggml_init({.mem_size = layers.size() * ggml_tensor_overhead(), .mem_buffer = nullptr, .no_alloc = true}));
    result.views_.resize(static_cast<size_t>(layers.back()) + 1);
    auto layer = layers.begin();
    for (size_t i = 0; i < memory.n_parts(); i++) {
        const int32_t n_layer = memory.n_layers(i, layers);
        if (n_layer == 0) continue;
        auto states = AccountedTensor::allocate(accountant, MemoryUse::kv, memory.part(i).buffer_type, GGML_TYPE_F32,
                                                n_state, n_layer, "the states of recurrent layers");
        if (!states) return std::unexpected(states.error());
        ggml_tensor* all = result.states_.emplace_back(std::move(*states)).get();
        ggml_backend_tensor_memset(all, 0, 0, ggml_nbytes(all));
        for (size_t row = 0; row < static_cast<size_t>(n_layer); row++) {
            ggml_tensor* view = ggml_view_1d(result.context_.get(), all, n_state, row * all->nb[1]);
            ggml_backend_view_init(view);
            result.views_[static_cast<size_t>(*layer++)] = view;
        }
    }
    return result;
}

size_t RecurrentStates::bytes_on(ggml_backend_dev_t device) const {
    size_t n_bytes = 0;
    for (const auto& states : states_)
        if (device_of(ggml_backend_buffer_get_type(states.get()->buffer)) == device)
            n_bytes += ggml_nbytes(states.get());
    return n_bytes;
}

size_t RecurrentStates::size_bytes() const {
    size_t n_bytes = 0;
    for (const auto& states : states_) n_bytes += ggml_nbytes(states.get());
    return n_bytes;
}

void RecurrentStates::copy(const RecurrentStates& from, int32_t layer) const {
    ggml_backend_tensor_copy(from.layer(layer), this->layer(layer));
}

void RecurrentStates::copy(const RecurrentStates& from) const {
    for (const int32_t layer : layers_) copy(from, layer);
}

}  // namespace cake
