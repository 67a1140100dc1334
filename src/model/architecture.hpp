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
    layer,  // also subtracts the mean
};

/// Norms of queries and keys.
enum class QkNorm {
    none,
    heads,             // each head is normalised on its own, before rotation
    heads_if_stored,   // the same, if the file has the tensors
    heads_after_rope,  // each head is normalised on its own, after rotation
    all,               // all heads are normalised as one vector, before rotation
};

enum class Activation { silu, gelu, relu, relu_sqr, xielu, swiglu_oai };

/// How the scores of the experts become the weights of those that a token uses. Numbered as expert_gating_func.
enum class Gating : uint8_t {
    softmax = 1,            // softmax over all experts
    sigmoid = 2,            // sigmoid of each score
    softmax_of_chosen = 3,  // the top experts are chosen by score; softmax over the chosen ones only
};

/// Layers that keep a state of fixed size instead of K and V.
enum class Recurrence {
    none,
    short_convolution,  // a gated convolution over the last tokens (LFM2)
    delta_net,          // gated DeltaNet (arXiv:2412.06464) after a convolution
    mamba2,             // Mamba-2 (arXiv:2405.21060) after a convolution
};

/// Where the gate of the attention's output comes from.
enum class AttentionGate {
    none,
    of_input,     // attn_gate, from the attention's input
    with_queries  // attn_q has a gate after each head's query
};

/// Experts that every token uses.
enum class SharedExperts { none, if_stated, always };

/// How a family chooses and weights its experts.
struct ExpertTraits {
    bool possible = false;  // the file may have experts
    bool needed = false;    // the file must have experts
    Gating gating = Gating::softmax;
    bool normalised = true;  // the weights of the chosen experts are divided by their sum
    // The file may state gating, normalisation and a factor of the weights; otherwise it must agree with this row.
    bool stated = false;
    bool selection_bias = false;  // exp_probs_b is added to the scores when experts are chosen, if the file has it
    bool dense_lead = false;      // the first layers have no experts, as many as the file says
    SharedExperts shared = SharedExperts::none;
    bool shared_gate = false;        // a sigmoid gate scales the output of the shared experts
    bool reads_layer_input = false;  // experts are chosen by the input of the layer, before attention
    // A dense feed-forward stands beside the experts. Both read the hidden state through norms of their own.
    bool beside_dense = false;
};

/// Traits of a model family, which the single layer graph reads. One row of the table in architecture.cpp.
struct Architecture {
    std::string_view name;                   // value of general.architecture
    std::string_view models;                 // the published models
    std::string_view ffn_norm = "ffn_norm";  // name of the norm tensor before the feed-forward
    int32_t rope_mode = GGML_ROPE_TYPE_NORMAL;
    NormKind norm = NormKind::rms;
    QkNorm qk_norm = QkNorm::none;
    Activation activation = Activation::silu;
    ExpertTraits experts{};
    Recurrence recurrence = Recurrence::none;
    AttentionGate attention_gate = AttentionGate::none;
    std::string_view output_norm = "output_norm";  // name of the norm tensor after the last layer
    int32_t no_rope_step = 0;                      // every no_rope_step-th layer does not rotate; 0: all rotate
    // Every swa_period-th layer attends to the whole text, the others to a sliding window; 0: no sliding windows.
    int32_t swa_period = 0;
    int32_t swa_n_layer = 0;  // only models with this number of layers have sliding windows; 0: all have
    // RoPE base of layers with a sliding window unless stated in the file; 0: that of the other layers.
    float swa_rope_freq_base = 0;
    // Models with this number of layers scale attention by n_embd / n_head instead of the width of a head.
    int32_t wide_scale_layers = 0;
    // Size of the sliding window unless stated in the file; nullopt: the file must state it.
    std::optional<int32_t> default_swa = 0;
    // Soft caps of the attention logits and of the final logits unless stated in the file; nullopt: no cap.
    std::optional<float> attn_softcap{};
    std::optional<float> final_softcap{};
    bool recurrence_beside = false;    // all layers have a recurrence beside attention, instead of some in its place
    bool pre_norm = true;              // attn_norm and ffn_norm before attention and feed-forward
    bool post_norm = false;            // post_attention_norm and post_ffw_norm after them
    bool norm_bias = false;            // norms of hidden states have a bias
    bool parallel = false;             // the feed-forward reads the same input as attention, and has no norm of its own
    bool gated = true;                 // true if the feed-forward has a gate
    bool fused_gate = false;           // the gate is the first half of ffn_up
    bool learned_positions = false;    // position_embd instead of rotation
    bool no_rope = false;              // no positions at all
    bool separate_blocks = false;      // each block of the file is attention, a recurrence or a feed-forward
    bool rope_sections = false;        // a file with rope.dimension_sections rotates as GGML_ROPE_TYPE_MROPE says
    bool latent = false;               // multi-head latent attention
    bool grouped_delta_heads = false;  // DeltaNet: heads of values that share a head of keys stand next to each other
    bool sinks = false;                // attn_sinks: logits that take part in the softmax but have no value
    bool unit_magnitude = false;       // latent attention does not scale rotated values by the magnitude of YaRN
    bool temperature = false;          // queries may grow with the logarithm of the position
    bool scales_embeddings = false;    // multiplies embeddings by sqrt(n_embd)
    bool ignores_swa = false;          // ignores a sliding window stated in the file, as llama.cpp does
    bool swa_starts_whole = false;     // the first layer of each swa_period attends to the whole text, not the last
    bool swa_rope_is_plain = false;    // rotation is not scaled in layers with a sliding window
    bool swa_heads = false;            // layers with a sliding window have KV heads of their own number and width
    // Values are normalised, without weights. Without attn_v, they are the keys before rotation.
    bool value_norm = false;
    bool shared_kv = false;           // the last layers may attend to the K and V of earlier ones
    bool layer_embeddings = false;    // the file may have embeddings of each token for each layer
    bool unscaled_attention = false;  // the attention logits have no factor
    bool layer_scale = false;         // layer_output_scale, if the file has it, scales the hidden state after a layer
    bool swa_rope_only = false;       // if there are sliding windows, only layers that have one rotate
    bool next_token_layers = false;   // the last layers may predict further tokens; they are not used
    bool needs_biases = false;        // every matrix of a layer must have a bias
    bool needs_output = false;        // the file must have an output matrix; it is not tied to the embeddings
    bool granite_scales = false;      // embedding_scale, residual_scale, logit_scale, attention.scale
    bool multiplies_logits = false;   // logit_scale, by which the logits are multiplied
    bool scales_queries = false;      // queries are scaled, not the logits: the same but for rounding
};

std::span<const Architecture> architectures();

/// Returns null if there is none of that name.
const Architecture* find_architecture(std::string_view name);

/// What differs from the common structure, for people: a list with semicolons.
std::string architecture_traits(const Architecture& architecture);

/// All names, separated by commas.
std::string architecture_names();

}  // namespace cake
