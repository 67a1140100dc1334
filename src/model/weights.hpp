#pragma once

#include <vector>

#include "model/hparams.hpp"
#include "model/tensor_loader.hpp"

namespace cake {

/// Tensors of a layer, with dimensions in ggml's order; null if the model has none. If attn_k or attn_v is null, its
/// rows follow those of the projection before it, and likewise those of ffn_up follow ffn_gate: one product computes
/// both.
struct LayerWeights {
    Norm attn_norm;      // [n_embd]
    Linear attn_q_a;     // [n_embd, n_lora_q], before attn_q
    Norm attn_q_a_norm;  // [n_lora_q]
    // [n_embd, head_dim_k * n_head]; in latent attention [.., Latent::head_dim_k * n_head]; with
    // AttentionGate::with_queries each head's query is followed by its gate
    Linear attn_q;
    bool v_is_k = false;                 // V is what attn_k gives, before norm and rotation
    Linear attn_k;                       // [n_embd, head_dim_k * n_head_kv]
    Linear attn_v;                       // [n_embd, head_dim_v * n_head_kv]
    Linear attn_kv_a_mqa;                // [n_embd, n_lora_kv + n_rot]
    Norm attn_kv_a_norm;                 // [n_lora_kv]
    ggml_tensor* attn_k_b = nullptr;     // [Latent::head_dim_k - n_rot, n_lora_kv, n_head]
    ggml_tensor* attn_v_b = nullptr;     // [n_lora_kv, Latent::head_dim_v, n_head]
    ggml_tensor* attn_q_norm = nullptr;  // [head_dim_k], or [head_dim_k * n_head] if it spans all heads
    ggml_tensor* attn_k_norm = nullptr;  // [head_dim_k], or [head_dim_k * n_head_kv] if it spans all heads
    ggml_tensor* attn_sinks = nullptr;   // [n_head]
    Linear attn_gate;    // [n_embd, head_dim_v * n_head]; in DeltaNet [n_embd, Recurrent::value_width()]
    Linear attn_output;  // [head_dim_v * n_head, n_embd]
    // [n_embd, n_channels]; [n_embd, 3 * n_embd] for a short convolution; [n_embd, gate | n_channels | n_head_v] in
    // Mamba; in old files of Qwen 3 Next, also with the rows of attn_gate: for each head of keys, query | key | values
    // | gates
    Linear conv_in;
    ggml_tensor* conv = nullptr;       // [n_conv, n_channels]
    ggml_tensor* conv_bias = nullptr;  // [n_channels]
    Linear ssm_alpha;                  // [n_embd, n_head_v]
    Linear ssm_beta;                   // [n_embd, n_head_v]
    Linear ssm_ba;  // instead of both: for each head of keys, the rows of ssm_beta, then those of ssm_alpha
    ggml_tensor* ssm_dt = nullptr;  // [n_head_v]
    ggml_tensor* ssm_a = nullptr;   // [n_head_v]; in Mamba [1, n_head_v], as ssm_d
    ggml_tensor* ssm_d = nullptr;
    Norm ssm_norm;                          // [Recurrent::head_dim_v]; in Mamba [value_width / n_head_k, n_head_k]
    Linear recurrent_output;                // [value_width, n_embd], or [n_embd, n_embd] for a short convolution
    Norm attn_post_norm;                    // [n_embd]
    Norm ffn_norm;                          // [n_embd]
    Linear ffn_gate_inp;                    // [n_embd, n_expert]; the next five are then those of the experts
    ggml_tensor* exp_probs_b = nullptr;     // [n_expert]
    Linear ffn_gate;                        // [n_embd, n_ff]; also null if there is no gate
    Linear ffn_up;                          // [n_embd, n_ff]
    Linear ffn_down;                        // [n_ff, n_embd]
    ggml_tensor* ffn_down_scale = nullptr;  // [n_expert] factors of the experts' outputs
    Linear ffn_gate_inp_shexp;              // [n_embd] gate of the shared experts' output
    Linear ffn_gate_shexp;                  // [n_embd, n_ff_shexp]
    Linear ffn_up_shexp;                    // [n_embd, n_ff_shexp]
    Linear ffn_down_shexp;                  // [n_ff_shexp, n_embd]
    Norm ffn_post_norm;                     // [n_embd]
    // With ExpertTraits::beside_dense. The dense feed-forward is that of the shared experts.
    ggml_tensor* ffn_gate_inp_scale = nullptr;  // [n_embd] factors of what chooses the experts
    Norm ffn_pre_norm_2;                        // [n_embd] before the experts
    Norm ffn_post_norm_1;                       // [n_embd] after the dense feed-forward
    Norm ffn_post_norm_2;                       // [n_embd] after the experts
    // Embeddings for the layer.
    Linear per_layer_inp_gate;                  // [n_embd, n_embd_per_layer]
    Linear per_layer_proj;                      // [n_embd_per_layer, n_embd]
    Norm per_layer_post_norm;                   // [n_embd]
    ggml_tensor* layer_output_scale = nullptr;  // [1]
};

/// Tensors of a model on its device.
struct Weights {
    ggml_tensor* token_embd = nullptr;     // [n_embd, n_vocab]
    ggml_tensor* position_embd = nullptr;  // [n_embd, n_ctx_train]; null if positions are not learned
    Norm output_norm;                      // [n_embd]
    Linear output;                         // [n_embd, n_vocab]; the data of token_embd if the file has no output matrix
    // Embeddings for each layer: those of a token stand after each other; null if the model has none.
    ggml_tensor* per_layer_token_embd = nullptr;  // [n_embd_per_layer * n_layer, n_vocab]
    ggml_tensor* per_layer_model_proj = nullptr;  // [n_embd, n_embd_per_layer * n_layer]
    Norm per_layer_proj_norm;                     // [n_embd_per_layer]
    ggml_tensor* rope_freqs = nullptr;            // [n_rot / 2]; null if the model has none
    // RoPE factors, [n_rot / 2], for texts longer than the original training context (long) and for texts within it
    // (short); null if the model has none.
    ggml_tensor* rope_factors_long = nullptr;
    ggml_tensor* rope_factors_short = nullptr;
    std::vector<LayerWeights> layers;
    LoadedTensors tensors;
};

/// `file` must outlive the result. Fails if a tensor is missing, has another shape, or is not
/// used by the architecture; the error names it.
Result<Weights> load_weights(const GgufFile& file, const Hparams& hparams, const Compute& compute, bool repack);

}  // namespace cake
