#pragma once

#include <ggml.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace cake {

enum class NormKind {
    rms,
    layer,  // also subtracts the mean and adds a bias
};

/// Norms of queries and keys, applied before rotation.
enum class QkNorm {
    none,
    heads,  // each head is normalised on its own
    all,    // all heads are normalised as one vector
};

enum class Activation { silu, gelu, swiglu_oai };

enum class Experts {
    none,
    softmax,            // softmax over all experts; the weights of the chosen ones are then normalised to a sum of 1
    softmax_of_chosen,  // the top experts are chosen by score; softmax over the chosen ones only
};

/// Traits of a model family, which the single layer graph reads. One row of the table in architecture.cpp.
struct Architecture {
    std::string_view name;                   // value of general.architecture
    std::string_view ffn_norm = "ffn_norm";  // name of the norm tensor before the feed-forward
    int32_t rope_mode = GGML_ROPE_TYPE_NORMAL;
    NormKind norm = NormKind::rms;
    QkNorm qk_norm = QkNorm::none;
    Activation activation = Activation::silu;
    Experts experts = Experts::none;  // kind of gating, used only if the file has experts
    int32_t no_rope_step = 0;         // every no_rope_step-th layer does not rotate; 0: all rotate
    // Every swa_period-th layer attends to the whole text, the others to a sliding window; 0: no sliding windows.
    int32_t swa_period = 0;
    // RoPE base of layers with a sliding window unless stated in the file; 0: that of the other layers.
    float swa_rope_freq_base = 0;
    // Models with this number of layers scale attention by n_embd / n_head instead of the width of a head.
    int32_t wide_scale_layers = 0;
    // Size of the sliding window unless stated in the file; nullopt: the file must state it.
    std::optional<int32_t> default_swa = 0;
    // Soft caps of the attention logits and of the final logits unless stated in the file; nullopt: no cap.
    std::optional<float> attn_softcap{};
    std::optional<float> final_softcap{};
    bool pre_norm = true;            // attn_norm and ffn_norm before attention and feed-forward
    bool post_norm = false;          // post_attention_norm and post_ffw_norm after them
    bool gated = true;               // true if the feed-forward has a gate
    bool fused_gate = false;         // the gate is the first half of ffn_up
    bool learned_positions = false;  // position_embd instead of rotation
    bool sinks = false;              // attn_sinks: logits that take part in the softmax but have no value
    bool scales_embeddings = false;  // multiplies embeddings by sqrt(n_embd)
    bool ignores_swa = false;        // ignores a sliding window stated in the file, as llama.cpp does
    bool swa_rope_is_plain = false;  // rotation is not scaled in layers with a sliding window
    bool needs_experts = false;      // the file must have experts
    bool needs_biases = false;       // every matrix of a layer must have a bias
    bool needs_output = false;       // the file must have an output matrix; it is not tied to the embeddings
    bool granite_scales = false;     // embedding_scale, residual_scale, logit_scale, attention.scale
};

std::span<const Architecture> architectures();

/// Returns null if there is none of that name.
const Architecture* find_architecture(std::string_view name);

/// All names, separated by commas.
std::string architecture_names();

}  // namespace cake
