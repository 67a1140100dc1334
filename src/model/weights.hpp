#pragma once

#include <vector>

#include "model/hparams.hpp"
#include "model/tensor_loader.hpp"

namespace cake {

/// One layer's tensors, in ggml's order of dimensions; null where the model has none. Where attn_k or attn_v is null
/// its rows follow those of the projection before it, and so do ffn_up's those of ffn_gate: one product gives both.
struct LayerWeights {
    Norm attn_norm;                      // [n_embd]
    Linear attn_q;                       // [n_embd, head_dim_k * n_head]
    Linear attn_k;                       // [n_embd, head_dim_k * n_head_kv]
    Linear attn_v;                       // [n_embd, head_dim_v * n_head_kv]
    ggml_tensor* attn_q_norm = nullptr;  // [head_dim_k], or of all heads [head_dim_k * n_head]
    ggml_tensor* attn_k_norm = nullptr;  // [head_dim_k], or of all heads [head_dim_k * n_head_kv]
    ggml_tensor* attn_sinks = nullptr;   // [n_head]
    Linear attn_output;                  // [head_dim_v * n_head, n_embd]
    Norm attn_post_norm;                 // [n_embd]
    Norm ffn_norm;                       // [n_embd]
    Linear ffn_gate_inp;                 // [n_embd, n_expert], where there are experts; these three are theirs then
    Linear ffn_gate;                     // [n_embd, n_ff]; null too where nothing gates
    Linear ffn_up;                       // [n_embd, n_ff]
    Linear ffn_down;                     // [n_ff, n_embd]
    Norm ffn_post_norm;                  // [n_embd]
};

/// A model's tensors on its device.
struct Weights {
    ggml_tensor* token_embd = nullptr;     // [n_embd, n_vocab]
    ggml_tensor* position_embd = nullptr;  // [n_embd, n_ctx_train]; null where positions are not learned
    Norm output_norm;                      // [n_embd]
    ggml_tensor* output = nullptr;         // [n_embd, n_vocab]; token_embd's data where the file ties them
    ggml_tensor* rope_freqs = nullptr;     // [n_rot / 2]; null where the model has none
    // The same for texts beyond the context that the model was first trained on, and for those within it.
    ggml_tensor* rope_factors_long = nullptr;
    ggml_tensor* rope_factors_short = nullptr;
    std::vector<LayerWeights> layers;
    LoadedTensors tensors;
};

/// `file` outlives the result. Sets `hparams.n_vocab`. A tensor that is missing, has another shape, or is not used by
/// the architecture is refused by name.
Result<Weights> load_weights(const GgufFile& file, Hparams& hparams, const Compute& compute, bool repack);

}  // namespace cake
