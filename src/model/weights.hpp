#pragma once

#include <ggml-cpp.h>

#include <vector>

#include "model/architecture.hpp"
#include "model/compute.hpp"
#include "model/gguf_file.hpp"

namespace cake {

/// One layer's tensors, in ggml's order of dimensions; biases are null where the model has none.
struct LayerWeights {
    ggml_tensor* attn_norm = nullptr;    // [n_embd]
    ggml_tensor* attn_q = nullptr;       // [n_embd, head_dim_k * n_head]
    ggml_tensor* attn_k = nullptr;       // [n_embd, head_dim_k * n_head_kv]
    ggml_tensor* attn_v = nullptr;       // [n_embd, head_dim_v * n_head_kv]
    ggml_tensor* attn_output = nullptr;  // [head_dim_v * n_head, n_embd]
    ggml_tensor* attn_q_bias = nullptr;
    ggml_tensor* attn_k_bias = nullptr;
    ggml_tensor* attn_v_bias = nullptr;
    ggml_tensor* attn_output_bias = nullptr;
    ggml_tensor* ffn_norm = nullptr;  // [n_embd]
    ggml_tensor* ffn_gate = nullptr;  // [n_embd, n_ff]
    ggml_tensor* ffn_up = nullptr;    // [n_embd, n_ff]
    ggml_tensor* ffn_down = nullptr;  // [n_ff, n_embd]
    ggml_tensor* ffn_gate_bias = nullptr;
    ggml_tensor* ffn_up_bias = nullptr;
    ggml_tensor* ffn_down_bias = nullptr;
};

/// A model's tensors on its device. Mapped from the file where the device computes on them as they are there,
/// copied into a repacked layout where it has a faster one.
struct Weights {
    ggml_tensor* token_embd = nullptr;   // [n_embd, n_vocab]
    ggml_tensor* output_norm = nullptr;  // [n_embd]
    ggml_tensor* output = nullptr;       // [n_embd, n_vocab]; token_embd's data where the file ties them
    ggml_tensor* rope_freqs = nullptr;   // [n_rot / 2]; null where the model has none
    std::vector<LayerWeights> layers;

    size_t n_bytes = 0;   // of all tensors as stored in the file
    size_t n_copied = 0;  // of those that were copied into memory
    std::vector<ggml_backend_buffer_ptr> buffers;
    ggml_context_ptr context;
};

/// `file` outlives the result. Sets `hparams.n_vocab`. A tensor that is missing, has another shape, or is not used by
/// the architecture is refused by name.
Result<Weights> load_weights(const GgufFile& file, Hparams& hparams, const Compute& compute, bool repack);

}  // namespace cake
