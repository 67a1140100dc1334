#include "engine/hidden_states.hpp"

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

namespace cake {

Result<HiddenStates> HiddenStates::allocate(Accountant& accountant, const LayerMemory& memory, int64_t n_embd,
                                            int64_t n_tokens, size_t max_f32_bytes) {
    const size_t f32_bytes = static_cast<size_t>(n_tokens) * static_cast<size_t>(n_embd) * sizeof(float);
    auto states = PartTensors::allocate(accountant, MemoryUse::hidden, memory,
                                        f32_bytes > max_f32_bytes ? GGML_TYPE_BF16 : GGML_TYPE_F32, n_embd, n_tokens,
                                        "the text's hidden states");
    if (!states) return std::unexpected(states.error());
    HiddenStates result;
    result.states_ = std::move(*states);
    return result;
}

void HiddenStates::move_to(int32_t layer) {
    const ggml_tensor* from = states_.of(std::exchange(layer_, layer));
    ggml_tensor* to = states_.of(layer);
    if (from == to) return;
    constexpr size_t kCopyBytes = size_t{16} << 20U;  // bounds the memory of the copy on the host
    std::vector<std::byte> part(std::min(kCopyBytes, ggml_nbytes(from)));
    for (size_t begin = 0; begin < ggml_nbytes(from); begin += part.size()) {
        const size_t n_bytes = std::min(part.size(), ggml_nbytes(from) - begin);
        ggml_backend_tensor_get(from, part.data(), begin, n_bytes);
        ggml_backend_tensor_set(to, part.data(), begin, n_bytes);
    }
}

ggml_tensor* HiddenStates::view(const Graph& graph, int64_t begin, int64_t end) const {
    ggml_tensor* all = states_.of(layer_);
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
