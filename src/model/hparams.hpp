#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/architecture.hpp"
#include "model/gguf_file.hpp"

namespace cake {

/// Rotation of queries and keys, with the names of ggml_rope_ext()'s parameters.
struct Rope {
    float freq_base = 10000;
    float freq_scale = 1;
    float ext_factor = 0;   // 1 for YaRN
    float attn_factor = 1;  // factor of the rotated values
    float beta_fast = 32;
    float beta_slow = 1;
    int32_t n_ctx_orig = 0;  // context length before scaling
};

/// Hyper-parameters of a model, named as in GGUF and llama.cpp and checked for consistency.
struct Hparams {
    const Architecture* architecture = nullptr;
    std::string name;
    int32_t n_vocab = 0;
    int32_t n_ctx_train = 0;
    int32_t n_embd = 0;
    int32_t n_layer = 0;
    int32_t n_ff = 0;
    int32_t n_head = 0;
    int32_t n_head_kv = 0;
    int32_t head_dim_k = 0;
    int32_t head_dim_v = 0;
    int32_t n_rot = 0;
    float norm_eps = 0;

    Rope rope;
    Rope rope_swa;                 // rotation in layers with a sliding window
    int32_t n_swa = 0;             // size of the sliding window in tokens, including the token itself
    std::vector<bool> swa_layers;  // [n_layer] true if the layer has a sliding window
    bool rotates = true;

    int32_t n_expert = 0;  // 0: dense feed-forward
    int32_t n_expert_used = 0;
    int32_t n_ff_exp = 0;

    float attention_scale = 1;  // factor of the attention logits
    float attn_softcap = 0;     // attention logits x become softcap * tanh(x / softcap); 0: no cap
    float final_softcap = 0;    // the same for the final logits
    float embedding_scale = 1;
    float residual_scale = 1;  // factor of what attention and feed-forward add to the hidden state
    float logit_scale = 1;

    /// Number of query heads that share a KV head.
    int32_t n_group() const { return n_head / n_head_kv; }
    bool is_swa(int32_t layer) const { return swa_layers[static_cast<size_t>(layer)]; }
    const Rope& rope_of(int32_t layer) const { return is_swa(layer) ? rope_swa : rope; }
    bool rotates_in(int32_t layer) const {
        return rotates && (architecture->no_rope_step == 0 || (layer + 1) % architecture->no_rope_step != 0);
    }
    /// True if the context was extended after the original training. The RoPE factors for long texts are then used.
    bool is_long() const { return n_ctx_train > rope.n_ctx_orig; }
    /// Max tokens of a text; 0: no limit.
    int32_t max_positions() const { return architecture->learned_positions ? n_ctx_train : 0; }
};

/// Reads and checks the hyper-parameters. Fails for an architecture that is not in the table, and for a key that would
/// change the arithmetic in a way that is not implemented; the error names it.
Result<Hparams> read_hparams(const GgufFile& file);

}  // namespace cake
