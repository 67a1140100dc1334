#include "memory/recurrent_states.hpp"

namespace cake {

Result<RecurrentStates> RecurrentStates::create(Accountant& accountant, ggml_backend_buffer_type_t type,
                                                std::span<const int32_t> layers, int64_t n_state) {
    RecurrentStates result;
    if (layers.empty()) return result;
    auto states = AccountedTensor::allocate(accountant, MemoryUse::kv, type, GGML_TYPE_F32, n_state, std::ssize(layers),
                                            "the states of recurrent layers");
    if (!states) return std::unexpected(states.error());
    result.states_ = std::move(*states);
    result.layers_.assign(layers.begin(), layers.end());
    ggml_backend_tensor_memset(result.all(), 0, 0, ggml_nbytes(result.all()));
    result.context_.reset(
        ggml_init({.mem_size = layers.size() * ggml_tensor_overhead(), .mem_buffer = nullptr, .no_alloc = true}));
    result.views_.resize(static_cast<size_t>(layers.back()) + 1);
    for (size_t i = 0; i < layers.size(); i++) {
        ggml_tensor* view = ggml_view_1d(result.context_.get(), result.all(), n_state, i * result.all()->nb[1]);
        ggml_backend_view_init(view);
        result.views_[static_cast<size_t>(layers[i])] = view;
    }
    return result;
}

void RecurrentStates::copy(const RecurrentStates& from, int32_t layer) const {
    ggml_backend_tensor_copy(from.layer(layer), this->layer(layer));
}

void RecurrentStates::copy(const RecurrentStates& from) const {
    for (const int32_t layer : layers_) copy(from, layer);
}

}  // namespace cake
