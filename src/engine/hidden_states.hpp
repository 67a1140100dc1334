#pragma once

#include "backend/accounted_tensor.hpp"
#include "backend/graph.hpp"

namespace cake {

/// The hidden states of a segment between two layers, on the device of the layer that reads them.
class HiddenStates {
  public:
    HiddenStates() = default;
    /// Stores them as bf16, which has the range of f32, if they would take more than `max_f32_bytes` as f32.
    static Result<HiddenStates> allocate(Accountant& accountant, const LayerMemory& memory, int64_t n_embd,
                                         int64_t n_tokens, size_t max_f32_bytes);

    /// Begins a layer: if it is on another device than the one before it, the hidden states are copied there.
    void move_to(int32_t layer);
    /// Hidden states of the tokens [begin, end), f32 [n_embd, end - begin].
    ggml_tensor* read(const Graph& graph, int64_t begin, int64_t end) const;
    void write(Graph& graph, ggml_tensor* values, int64_t begin, int64_t end) const;

  private:
    ggml_tensor* view(const Graph& graph, int64_t begin, int64_t end) const;

    PartTensors states_;  // [n_embd, n_tokens]
    int32_t layer_ = 0;
};

}  // namespace cake
