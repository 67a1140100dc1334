#include "engine/hidden_states.hpp"

namespace cake {

Result<HiddenStates> HiddenStates::allocate(Accountant& accountant, ggml_backend_buffer_type_t type, int64_t n_embd,
                                            int64_t n_tokens, size_t max_f32_bytes) {
    const size_t f32_bytes = static_cast<size_t>(n_tokens) * static_cast<size_t>(n_embd) * sizeof(float);
    auto states = AccountedTensor::allocate(accountant, MemoryUse::hidden, type,
                                            f32_bytes > max_f32_bytes ? GGML_TYPE_BF16 : GGML_TYPE_F32, n_embd,
                                            n_tokens, "the text's hidden states");
    if (!states) return std::unexpected(states.error());
    HiddenStates result;
    result.states_ = std::move(*states);
    return result;
}

ggml_tensor* HiddenStates::view(const Graph& graph, int64_t begin, int64_t end) const {
    ggml_tensor* all = states_.get();
    return ggml_view_2d(graph.context(), all, all->ne[0], end - begin, all->nb[1],
                        static_cast<size_t>(begin) * all->nb[1]);
}

ggml_tensor* HiddenStates::read(const Graph& graph, int64_t begin, int64_t end) const {
    ggml_tensor* states = view(graph, begin, end);
    return states->type == GGML_TYPE_F32 ? states : ggml_cast(graph.context(), states, GGML_TYPE_F32);
}

void HiddenStates::write(Graph& graph, ggml_tensor* values, int64_t begin, int64_t end) const {
    graph.add(ggml_cpy(graph.context(), values, view(graph, begin, end)));
}

}  // namespace cake
