#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/architecture.hpp"
#include "model/gguf_file.hpp"

namespace cake {

/// How queries and keys are rotated, in ggml_rope_ext()'s names.
struct Rope {
    float freq_base = 10000;
    float freq_scale = 1;
    float ext_factor = 0;   // 1 for YaRN
    float attn_factor = 1;  // of the rotated values
    float beta_fast = 32;
    float beta_slow = 1;
    int32_t n_ctx_orig = 0;  // context before any scaling
};

/// A model's hyper-parameters, in GGUF's and llama.cpp's names, checked against each other.
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
    Rope rope_swa;                 // in layers that attend to a window
    int32_t n_swa = 0;             // tokens that these see, the token itself included
    std::vector<bool> swa_layers;  // [n_layer]
    bool rotates = true;

    int32_t n_expert = 0;  // 0: one feed-forward for all tokens
    int32_t n_expert_used = 0;
    int32_t n_ff_exp = 0;

    float attention_scale = 1;  // of the logits of attention
    float attn_softcap = 0;     // those, x, become softcap * tanh(x / softcap); 0: they stay
    float final_softcap = 0;    // the same of the last logits
    float embedding_scale = 1;
    float residual_scale = 1;  // of what a layer adds
    float logit_scale = 1;

    /// Query heads that share a KV head.
    int32_t n_group() const { return n_head / n_head_kv; }
    bool is_swa(int32_t layer) const { return swa_layers[static_cast<size_t>(layer)]; }
    const Rope& rope_of(int32_t layer) const { return is_swa(layer) ? rope_swa : rope; }
    bool rotates_in(int32_t layer) const {
        return rotates && (architecture->no_rope_step == 0 || (layer + 1) % architecture->no_rope_step != 0);
    }
    /// Whether the model was trained, at last, on longer texts than at first, so that the factors for these are taken.
    bool is_long() const { return n_ctx_train > rope.n_ctx_orig; }
    /// The most tokens that a text can have; 0: no limit.
    int32_t most_positions() const { return architecture->learned_positions ? n_ctx_train : 0; }
};

/// Reads and checks; an architecture that is not in the table, or a key that would change the arithmetic in a way
/// that is not built, is refused by name.
Result<Hparams> read_hparams(const GgufFile& file);

}  // namespace cake
