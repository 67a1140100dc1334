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
    layer,  // the mean removed too, and a bias
};

/// Norms of queries and keys, before they are rotated.
enum class QkNorm {
    none,
    heads,  // of every head by itself
    all,    // of all heads as one vector
};

enum class Activation { silu, gelu, swiglu_oai };

enum class Experts {
    none,
    softmax,            // of all experts, then the weights of those chosen are brought to a sum of 1
    softmax_of_chosen,  // the experts' scores choose, and their softmax weighs those chosen alone
};

/// What distinguishes a model family: traits that the one layer graph reads. A row of the table in architecture.cpp.
struct Architecture {
    std::string_view name;                   // general.architecture
    std::string_view ffn_norm = "ffn_norm";  // the tensor before the feed-forward
    int32_t rope_mode = GGML_ROPE_TYPE_NORMAL;
    NormKind norm = NormKind::rms;
    QkNorm qk_norm = QkNorm::none;
    Activation activation = Activation::silu;
    Experts experts = Experts::none;  // where the file says that there are any
    int32_t no_rope_step = 0;         // every so many layers one does not rotate
    int32_t swa_period = 0;           // every so many layers one attends to all, the others to a window; 0: all do
    float swa_rope_freq_base = 0;     // theirs, where the file does not say; 0: as in the others
    int32_t wide_scale_layers = 0;  // with so many layers attention is scaled by n_embd / n_head, not the head's width
    std::optional<int32_t> default_swa = 0;  // the window, where the file does not say; nothing: it has to
    // Soft caps of the logits of attention and of the last ones, where the file does not say; nothing: there are none.
    std::optional<float> attn_softcap{};
    std::optional<float> final_softcap{};
    bool pre_norm = true;            // attn_norm and ffn_norm before attention and feed-forward
    bool post_norm = false;          // post_attention_norm and post_ffw_norm after them
    bool gated = true;               // the feed-forward has a gate
    bool fused_gate = false;         // which is the first half of ffn_up
    bool learned_positions = false;  // position_embd instead of rotation
    bool sinks = false;              // attn_sinks: logits that take weight and give nothing
    bool scales_embeddings = false;  // by the root of their width
    bool ignores_swa = false;        // a stated window means nothing, as in llama.cpp
    bool swa_rope_is_plain = false;  // rotation in layers with a window is not scaled
    bool needs_experts = false;      // there is no file without
    bool needs_biases = false;       // of every matrix of a layer
    bool needs_output = false;       // the embeddings do not serve as one
    bool granite_scales = false;     // embedding_scale, residual_scale, logit_scale, attention.scale
};

std::span<const Architecture> architectures();

/// Null where there is none.
const Architecture* find_architecture(std::string_view name);

/// All names, in a sentence.
std::string architecture_names();

}  // namespace cake
