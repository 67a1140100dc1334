#include "model/architecture.hpp"

#include <algorithm>
#include <format>

namespace cake {

namespace {

constexpr ExpertTraits kMixtralExperts{.possible = true};
constexpr ExpertTraits kQwenExperts{.possible = true, .needed = true};
// Experts as in DeepSeek-V3: sigmoid scores, a bias for the choice, and what the file says of the weights.
constexpr ExpertTraits kDeepSeekExperts{.possible = true,
                                        .needed = true,
                                        .gating = Gating::sigmoid,
                                        .normalised = false,
                                        .stated = true,
                                        .selection_bias = true,
                                        .dense_lead = true,
                                        .shared = SharedExperts::if_stated};

constexpr Architecture kArchitectures[] = {
    {.name = "llama",
     .models = "Llama 1 to 3, Mistral, Mixtral, SmolLM 1 and 2, TinyLlama",
     .experts = kMixtralExperts},
    {.name = "mistral3",
     .models = "Ministral 3, Mistral Small 3.2 and later (text)",
     .experts = kMixtralExperts,
     .temperature = true},
    {.name = "qwen2", .models = "Qwen 2, 2.5", .rope_mode = GGML_ROPE_TYPE_NEOX},
    {.name = "qwen2moe",
     .models = "Qwen 1.5 and 2, mixtures of experts",
     .rope_mode = GGML_ROPE_TYPE_NEOX,
     .experts =
         {.possible = true, .needed = true, .normalised = false, .shared = SharedExperts::always, .shared_gate = true},
     .needs_output = true},
    {.name = "qwen2vl", .models = "Qwen 2 VL, 2.5 VL (text)", .rope_mode = GGML_ROPE_TYPE_MROPE},
    {.name = "qwen3", .models = "Qwen 3", .rope_mode = GGML_ROPE_TYPE_NEOX, .qk_norm = QkNorm::heads},
    {.name = "qwen3moe",
     .models = "Qwen 3, mixtures of experts",
     .rope_mode = GGML_ROPE_TYPE_NEOX,
     .qk_norm = QkNorm::heads,
     .experts = kQwenExperts},
    {.name = "qwen3vl", .models = "Qwen 3 VL (text)", .rope_mode = GGML_ROPE_TYPE_IMROPE, .qk_norm = QkNorm::heads},
    {.name = "qwen3vlmoe",
     .models = "Qwen 3 VL, mixtures of experts (text)",
     .rope_mode = GGML_ROPE_TYPE_IMROPE,
     .qk_norm = QkNorm::heads,
     .experts = kQwenExperts},
    {.name = "qwen35",
     .models = "Qwen 3.5, 3.6, dense (text)",
     .ffn_norm = "post_attention_norm",
     .rope_mode = GGML_ROPE_TYPE_IMROPE,
     .qk_norm = QkNorm::heads,
     .recurrence = Recurrence::delta_net,
     .attention_gate = AttentionGate::with_queries,
     .next_token_layers = true},
    {.name = "qwen35moe",
     .models = "Qwen 3.5, 3.6, mixtures of experts (text)",
     .ffn_norm = "post_attention_norm",
     .rope_mode = GGML_ROPE_TYPE_IMROPE,
     .qk_norm = QkNorm::heads,
     .experts = {.possible = true, .needed = true, .shared = SharedExperts::always, .shared_gate = true},
     .recurrence = Recurrence::delta_net,
     .attention_gate = AttentionGate::with_queries,
     .next_token_layers = true},
    {.name = "lfm2",
     .models = "LFM2, dense",
     .rope_mode = GGML_ROPE_TYPE_NEOX,
     .qk_norm = QkNorm::heads,
     .recurrence = Recurrence::short_convolution,
     .output_norm = "token_embd_norm"},
    {.name = "lfm2moe",
     .models = "LFM2, mixtures of experts",
     .rope_mode = GGML_ROPE_TYPE_NEOX,
     .qk_norm = QkNorm::heads,
     .experts = {.possible = true,
                 .needed = true,
                 .gating = Gating::sigmoid,
                 .stated = true,
                 .selection_bias = true,
                 .dense_lead = true},
     .recurrence = Recurrence::short_convolution,
     .output_norm = "token_embd_norm"},
    {.name = "gemma",
     .models = "Gemma 1",
     .rope_mode = GGML_ROPE_TYPE_NEOX,
     .activation = Activation::gelu,
     .scales_embeddings = true,
     .scales_queries = true},
    {.name = "gemma2",
     .models = "Gemma 2",
     .rope_mode = GGML_ROPE_TYPE_NEOX,
     .activation = Activation::gelu,
     .swa_period = 2,
     .wide_scale_layers = 46,
     .default_swa = 4096,
     .attn_softcap = 50,
     .final_softcap = 30,
     .post_norm = true,
     .scales_embeddings = true,
     .scales_queries = true},
    {.name = "gemma3",
     .models = "Gemma 3 (text)",
     .rope_mode = GGML_ROPE_TYPE_NEOX,
     .qk_norm = QkNorm::heads,
     .activation = Activation::gelu,
     .swa_period = 6,
     .swa_rope_freq_base = 10000,
     .wide_scale_layers = 62,
     .final_softcap = 0,
     .post_norm = true,
     .scales_embeddings = true,
     .swa_rope_is_plain = true,
     .scales_queries = true},
    // Converters wrote sliding windows that these models do not have.
    {.name = "phi3",
     .models = "Phi 3, 3.5, Phi 4 mini",
     .rope_mode = GGML_ROPE_TYPE_NEOX,
     .fused_gate = true,
     .ignores_swa = true,
     .scales_queries = true},
    {.name = "phimoe",
     .models = "Phi 3.5 MoE",
     .rope_mode = GGML_ROPE_TYPE_NEOX,
     .experts = kQwenExperts,
     .norm_bias = true,
     .ignores_swa = true,
     .needs_output = true,
     .scales_queries = true},
    {.name = "gpt2",
     .models = "GPT-2",
     .norm = NormKind::layer,
     .activation = Activation::gelu,
     .norm_bias = true,
     .gated = false,
     .learned_positions = true,
     .needs_biases = true},
    {.name = "starcoder2",
     .models = "StarCoder 2",
     .rope_mode = GGML_ROPE_TYPE_NEOX,
     .norm = NormKind::layer,
     .activation = Activation::gelu,
     .norm_bias = true,
     .gated = false,
     .ignores_swa = true},
    {.name = "gpt-oss",
     .models = "gpt-oss 20B, 120B",
     .ffn_norm = "post_attention_norm",
     .rope_mode = GGML_ROPE_TYPE_NEOX,
     .activation = Activation::swiglu_oai,
     .experts = {.possible = true, .needed = true, .gating = Gating::softmax_of_chosen, .normalised = false},
     .swa_period = 2,
     .default_swa = std::nullopt,
     .sinks = true,
     .needs_biases = true,
     .needs_output = true},
    {.name = "glm4", .models = "GLM 4 9B and 32B", .post_norm = true, .fused_gate = true},
    {.name = "glm4moe",
     .models = "GLM 4.5, 4.6, and their Air versions",
     .ffn_norm = "post_attention_norm",
     .rope_mode = GGML_ROPE_TYPE_NEOX,
     .qk_norm = QkNorm::heads_if_stored,
     .experts = kDeepSeekExperts,
     .rope_sections = true,
     .next_token_layers = true},
    {.name = "minimax-m2",
     .models = "MiniMax M2",
     .rope_mode = GGML_ROPE_TYPE_NEOX,
     .qk_norm = QkNorm::all,
     .experts = {.possible = true, .needed = true, .gating = Gating::sigmoid, .stated = true, .selection_bias = true},
     .needs_output = true},
    {.name = "deepseek2",
     .models = "DeepSeek V2, V3, R1 and their Lite versions, GLM 4.7 Flash, Kimi K2",
     .experts = {.possible = true,
                 .normalised = false,
                 .stated = true,
                 .selection_bias = true,
                 .dense_lead = true,
                 .shared = SharedExperts::always},
     .latent = true,
     .temperature = true,
     .next_token_layers = true},
    {.name = "dots1",
     .models = "dots.llm1",
     .rope_mode = GGML_ROPE_TYPE_NEOX,
     .qk_norm = QkNorm::heads,
     .experts = kDeepSeekExperts},
    {.name = "bailingmoe2",
     .models = "Ling 2, Ring 2",
     .rope_mode = GGML_ROPE_TYPE_NEOX,
     .qk_norm = QkNorm::heads,
     .experts = kDeepSeekExperts,
     .next_token_layers = true,
     .needs_output = true},
    {.name = "afmoe",
     .models = "Trinity",
     .rope_mode = GGML_ROPE_TYPE_NEOX,
     .qk_norm = QkNorm::heads,
     .experts = kDeepSeekExperts,
     .attention_gate = AttentionGate::of_input,
     .no_rope_step = 4,
     .swa_period = 4,
     .post_norm = true,
     .scales_embeddings = true},
    {.name = "mellum",
     .models = "Mellum 2",
     .rope_mode = GGML_ROPE_TYPE_NEOX,
     .qk_norm = QkNorm::heads,
     .experts = kQwenExperts,
     .swa_period = 4,
     .swa_rope_is_plain = true,
     .needs_output = true},
    {.name = "ernie4_5", .models = "ERNIE 4.5"},
    {.name = "ernie4_5-moe",
     .models = "ERNIE 4.5, mixtures of experts",
     .experts = {.possible = true,
                 .needed = true,
                 .selection_bias = true,
                 .dense_lead = true,
                 .shared = SharedExperts::if_stated}},
    {.name = "hunyuan-dense",
     .models = "Hunyuan, dense",
     .rope_mode = GGML_ROPE_TYPE_NEOX,
     .qk_norm = QkNorm::heads_after_rope},
    {.name = "hunyuan-moe",
     .models = "Hunyuan A13B",
     .rope_mode = GGML_ROPE_TYPE_NEOX,
     .qk_norm = QkNorm::heads_after_rope,
     .experts = {.possible = true, .needed = true, .shared = SharedExperts::always}},
    {.name = "seed_oss", .models = "Seed-OSS", .ffn_norm = "post_attention_norm", .rope_mode = GGML_ROPE_TYPE_NEOX},
    {.name = "exaone", .models = "EXAONE 3, 3.5", .rope_mode = GGML_ROPE_TYPE_NEOX},
    // The 32B has sliding windows, smaller ones have none.
    {.name = "exaone4",
     .models = "EXAONE 4",
     .rope_mode = GGML_ROPE_TYPE_NEOX,
     .qk_norm = QkNorm::heads,
     .swa_period = 4,
     .swa_n_layer = 64,
     .default_swa = 4096,
     .pre_norm = false,
     .post_norm = true,
     .swa_rope_only = true,
     .next_token_layers = true},
    {.name = "smollm3", .models = "SmolLM 3", .no_rope_step = 4},
    {.name = "smallthinker",
     .models = "SmallThinker",
     .rope_mode = GGML_ROPE_TYPE_NEOX,
     .activation = Activation::relu,
     .experts = {.possible = true,
                 .needed = true,
                 .gating = Gating::softmax_of_chosen,
                 .stated = true,
                 .reads_layer_input = true},
     .swa_period = 4,
     .swa_starts_whole = true,
     .swa_rope_only = true},
    {.name = "arcee", .models = "AFM 4.5B", .activation = Activation::relu_sqr, .gated = false},
    {.name = "apertus",
     .models = "Apertus",
     .rope_mode = GGML_ROPE_TYPE_NEOX,
     .qk_norm = QkNorm::heads,
     .activation = Activation::xielu,
     .gated = false,
     .needs_output = true},
    {.name = "granite", .models = "Granite 3 and 4, dense", .granite_scales = true},
    {.name = "granitemoe",
     .models = "Granite 3, mixtures of experts",
     .experts = {.possible = true, .needed = true, .shared = SharedExperts::if_stated},
     .granite_scales = true},
    {.name = "granitehybrid",
     .models = "Granite 4",
     .experts = {.possible = true, .shared = SharedExperts::if_stated},
     .recurrence = Recurrence::mamba2,
     .granite_scales = true},
    {.name = "olmo2",
     .models = "OLMo 2, OLMo 3",
     .rope_mode = GGML_ROPE_TYPE_NEOX,
     .qk_norm = QkNorm::all,
     .swa_period = 4,
     .pre_norm = false,
     .post_norm = true,
     .swa_rope_is_plain = true,
     .needs_output = true},
    {.name = "olmoe",
     .models = "OLMoE",
     .rope_mode = GGML_ROPE_TYPE_NEOX,
     .qk_norm = QkNorm::all,
     .experts = {.possible = true, .needed = true, .normalised = false},
     .needs_output = true},
    {.name = "command-r", .models = "Command R", .norm = NormKind::layer, .parallel = true, .multiplies_logits = true},
    {.name = "cohere2",
     .models = "Command R7B, Command A",
     .norm = NormKind::layer,
     .swa_period = 4,
     .default_swa = std::nullopt,
     .parallel = true,
     .swa_rope_only = true,
     .multiplies_logits = true},
};

}  // namespace

std::span<const Architecture> architectures() {
    return kArchitectures;
}

const Architecture* find_architecture(std::string_view name) {
    const auto* found = std::ranges::find(kArchitectures, name, &Architecture::name);
    return found == std::end(kArchitectures) ? nullptr : found;
}

std::string architecture_traits(const Architecture& a) {
    std::string traits;
    const auto add = [&](bool has, std::string_view what) {
        if (has) traits += (traits.empty() ? "" : "; ") + std::string(what);
    };
    add(a.experts.possible, a.experts.needed ? "experts" : "experts, if the file has them");
    add(a.experts.shared != SharedExperts::none, "shared experts");
    add(a.experts.dense_lead, "dense first layers");
    add(a.experts.reads_layer_input, "experts chosen before attention");
    add(a.swa_period > 0, std::format("sliding windows in {} of {} layers", a.swa_period - 1, a.swa_period));
    add(a.swa_n_layer > 0, std::format("the windows only with {} layers", a.swa_n_layer));
    add(a.swa_rope_only, "RoPE only in layers with windows");
    add(a.swa_rope_is_plain, "unscaled RoPE in layers with windows");
    add(a.no_rope_step > 0, std::format("no RoPE in one of {} layers", a.no_rope_step));
    add(a.qk_norm == QkNorm::heads_if_stored, "normalised queries and keys, if the file has the norms");
    add(a.qk_norm != QkNorm::none && a.qk_norm != QkNorm::heads_if_stored, "normalised queries and keys");
    add(a.norm == NormKind::layer, "LayerNorm");
    add(a.post_norm,
        a.pre_norm ? "norms also after attention and feed-forward" : "norms only after attention and feed-forward");
    add(a.parallel, "attention and feed-forward side by side");
    add(a.attention_gate != AttentionGate::none, "gated attention");
    add(a.recurrence == Recurrence::short_convolution, "short convolutions in some layers");
    add(a.recurrence == Recurrence::delta_net, "gated DeltaNet in some layers");
    add(a.recurrence == Recurrence::mamba2, "Mamba-2 in some layers");
    add(a.fused_gate, "a fused gate");
    add((a.rope_mode & GGML_ROPE_TYPE_MROPE) != 0, "multi-section RoPE");
    add(a.latent, "latent attention, whose cache is one vector for all heads");
    add(a.sinks, "attention sinks");
    add(a.temperature, "queries that grow with the position");
    add(a.attn_softcap.has_value() || a.final_softcap.has_value(), "soft caps");
    add(a.learned_positions, "learned positions, which limit the text to the trained context");
    add(!a.gated, "no gate in the feed-forward");
    add(a.granite_scales, "scaled embeddings, residuals, attention and logits");
    add(a.next_token_layers, "layers for further tokens are left out");
    return traits.empty() ? "the common structure" : traits;
}

std::string architecture_names() {
    std::string names;
    for (const auto& architecture : kArchitectures)
        names += (names.empty() ? "" : ", ") + std::string(architecture.name);
    return names;
}

}  // namespace cake
