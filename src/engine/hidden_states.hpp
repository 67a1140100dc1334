#pragma once

#include "backend/accounted_tensor.hpp"
#include "backend/graph.hpp"

namespace cake {

/// The hidden states of a segment between two layers.
class HiddenStates {
  public:
    HiddenStates() = default;
    /// Stores them as bf16, which has the range of f32, if they would take more than `max_f32_bytes` as f32.
    static Result<HiddenStates> allocate(Accountant& accountant, ggml_backend_buffer_type_t type, int64_t n_embd,
                                         int64_t n_tokens, size_t max_f32_bytes);

    /// Hidden states of the tokens [begin, end), f32 [n_embd, end - begin].
    ggml_tensor* read(const Graph& graph, int64_t begin, int64_t end) const;
    void write(Graph& graph, ggml_tensor* values, int64_t begin, int64_t end) const;

  private:
    ggml_tensor* view(const Graph& graph, int64_t begin, int64_t end) const;

    AccountedTensor states_;  // [n_embd, n_tokens]
};

}  // namespace cake
