#pragma once

#include <algorithm>
#include <array>
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

/// Multi-head latent attention: K is one vector for all heads, [n_lora_kv latent values | n_rot rotated ones], and V is
/// its latent part. Projections of each head make queries that fit to it and values from it.
struct Latent {
    int32_t n_lora_kv = 0;
    int32_t head_dim_k = 0;  // values of a query before its projection, of which the last n_rot are rotated
    int32_t head_dim_v = 0;  // values of an output after its projection
    float yarn_log_multiplier = 0;
};

/// Sizes of the recurrent layers.
struct Recurrent {
    std::vector<bool> layers;  // [n_layer] true if the layer has a recurrence
    int32_t n_conv = 0;        // tokens that the convolution reads, with the token itself
    int32_t n_channels = 0;    // channels that are convolved
    // Heads of queries and keys (Mamba's groups), heads of values, and width of each. All are 0 for a short
    // convolution.
    int32_t n_head_k = 0;
    int32_t n_head_v = 0;
    int32_t head_dim_k = 0;
    int32_t head_dim_v = 0;

    /// Numbers in the state of a layer: the channels of the last tokens, then a matrix [head_dim_k, head_dim_v] for
    /// each head of values.
    int64_t n_conv_state() const { return int64_t{n_conv - 1} * n_channels; }
    int64_t n_state() const { return n_conv_state() + int64_t{head_dim_k} * value_width(); }
    int32_t key_width() const { return n_head_k * head_dim_k; }
    int32_t value_width() const { return n_head_v * head_dim_v; }
};

/// The K and V of a layer.
struct KvHeads {
    int32_t n_head_kv = 0;
    int32_t head_dim_k = 0;
    int32_t head_dim_v = 0;
    int32_t n_rot = 0;  // values of a head that rotate
};

/// The blocks of the file in which a layer has its parts. Most files have one block for both.
struct LayerBlocks {
    int32_t mixer = 0;         // attention or recurrence
    int32_t feed_forward = 0;  // -1: the layer has none
};

/// Parameters of the activation xIELU, with the names of ggml_xielu()'s.
struct Xielu {
    float alpha_n = 0;
    float alpha_p = 0;
    float beta = 0;
    float eps = 0;
};

/// Hyper-parameters of a model, named as in GGUF and llama.cpp and checked for consistency.
struct Hparams {
    const Architecture* architecture = nullptr;
    std::string name;
    int32_t n_vocab = 0;
    int32_t n_ctx_train = 0;
    int32_t n_embd = 0;
    int32_t n_layer = 0;               // layers that are computed
    int32_t n_block = 0;               // blocks of the file in which they are
    int32_t n_block_all = 0;           // the same and those that predict further tokens, which are not used
    std::vector<LayerBlocks> blocks;   // [n_layer]
    int32_t n_ff = 0;                  // the largest of n_ff_blocks
    std::vector<int32_t> n_ff_blocks;  // [n_block_all] width of a dense feed-forward
    int32_t n_head = 0;
    // K and V of the layers that attend to the whole text.
    int32_t n_head_kv = 0;
    int32_t head_dim_k = 0;
    int32_t head_dim_v = 0;
    int32_t n_rot = 0;
    KvHeads swa_heads;                  // the same of layers with a sliding window
    int32_t n_layer_kv_from_start = 0;  // layers that have K and V of their own; the others read those of kv_layer()
    int32_t n_embd_per_layer = 0;       // values of a token's embedding for each layer; 0: there are none
    float norm_eps = 0;
    Latent latent;        // unused without has_latent()
    Recurrent recurrent;  // unused without has_recurrent()

    int32_t rope_mode = GGML_ROPE_TYPE_NORMAL;
    // Parts of half a head that rotate by the time, the row, the column and the fourth coordinate of a part of an
    // image. For text, the first three are the position and the fourth is 0, as in llama.cpp. Unused by other modes.
    std::array<int32_t, GGML_MROPE_SECTIONS> rope_sections{};
    Rope rope;
    Rope rope_swa;                 // rotation in layers with a sliding window
    int32_t n_swa = 0;             // size of the sliding window in tokens, including the token itself
    std::vector<bool> swa_layers;  // [n_layer] true if the layer has a sliding window
    bool rotates = true;

    int32_t n_expert = 0;  // 0: dense feed-forward
    int32_t n_expert_used = 0;
    int32_t n_ff_exp = 0;
    int32_t n_layer_dense_lead = 0;  // the first layers, without experts
    int32_t n_expert_groups = 1;     // experts are chosen from the best n_group_used groups
    int32_t n_group_used = 1;
    bool has_shared_experts = false;
    Gating expert_gating = Gating::softmax;
    bool expert_weights_norm = true;  // the weights of the chosen experts are divided by their sum
    float expert_weights_scale = 1;
    std::vector<Xielu> xielu;  // [n_layer] if the activation has parameters

    float attention_scale = 1;  // factor of the attention logits, or of the queries with Architecture::scales_queries
    // Queries are multiplied by temperature(position).
    float temperature_scale = 0;
    int32_t temperature_length = 1;
    float attn_softcap = 0;   // attention logits x become softcap * tanh(x / softcap); 0: no cap
    float final_softcap = 0;  // the same for the final logits
    float embedding_scale = 1;
    float residual_scale = 1;  // factor of what attention and feed-forward add to the hidden state
    float logit_scale = 1;

    bool has_latent() const { return latent.n_lora_kv > 0; }
    bool has_recurrent() const { return !recurrent.layers.empty(); }
    bool has_rope_sections() const { return (rope_mode & GGML_ROPE_TYPE_MROPE) != 0; }
    /// The first of the n_rot values of a query or key that rotate.
    int32_t rot_begin() const { return has_latent() ? latent.n_lora_kv : 0; }
    /// Maximum number of KV heads of a layer.
    int32_t max_head_kv() const { return std::max(n_head_kv, swa_heads.n_head_kv); }
    /// Number of query heads that share a KV head.
    int32_t n_group() const { return n_head / n_head_kv; }
    bool is_swa(int32_t layer) const { return swa_layers[static_cast<size_t>(layer)]; }
    bool has_kv(int32_t layer) const { return layer < n_layer_kv_from_start; }
    /// The layer whose K and V this one attends to.
    int32_t kv_layer(int32_t layer) const {
        return has_kv(layer) ? layer : n_layer_kv_from_start - (is_swa(layer) ? 2 : 1);
    }
    KvHeads heads_of_whole() const { return {n_head_kv, head_dim_k, head_dim_v, n_rot}; }
    KvHeads heads_of(int32_t layer) const { return is_swa(layer) ? swa_heads : heads_of_whole(); }
    /// True if the layer has a recurrence, instead of attention or beside it.
    bool has_state(int32_t layer) const { return has_recurrent() && recurrent.layers[static_cast<size_t>(layer)]; }
    /// True if it has one instead of attention.
    bool is_recurrent(int32_t layer) const { return has_state(layer) && !architecture->recurrence_beside; }
    const Rope& rope_of(int32_t layer) const { return is_swa(layer) ? rope_swa : rope; }
    const LayerBlocks& blocks_of(int32_t layer) const { return blocks[static_cast<size_t>(layer)]; }
    bool has_feed_forward(int32_t layer) const { return blocks_of(layer).feed_forward >= 0; }
    /// Width of a layer's dense feed-forward.
    int32_t n_ff_of(int32_t layer) const { return n_ff_blocks[static_cast<size_t>(blocks_of(layer).feed_forward)]; }
    bool has_experts(int32_t layer) const { return n_expert > 0 && layer >= n_layer_dense_lead; }
    bool rotates_in(int32_t layer) const {
        if (!rotates || (architecture->swa_rope_only && n_swa > 0 && !is_swa(layer))) return false;
        return architecture->no_rope_step == 0 || (layer + 1) % architecture->no_rope_step != 0;
    }
    /// 1 + temperature_scale * log(1 + floor(position / temperature_length))
    float temperature(int64_t position) const;
    /// True if the context was extended after the original training. The RoPE factors for long texts are then used.
    bool is_long() const { return n_ctx_train > rope.n_ctx_orig; }
    /// Max tokens of a text; 0: no limit.
    int32_t max_positions() const { return architecture->learned_positions ? n_ctx_train : 0; }
};

/// Reads and checks the hyper-parameters. Fails for an architecture that is not in the table, and for a key that would
/// change the arithmetic in a way that is not implemented; the error names it.
Result<Hparams> read_hparams(const GgufFile& file);

}  // namespace cake
