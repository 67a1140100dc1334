#include "model/architecture.hpp"

#include <algorithm>

namespace cake {

namespace {

constexpr Architecture kArchitectures[] = {
    // Llama 1 to 3, Mistral, Mixtral, SmolLM, TinyLlama
    {.name = "llama", .experts = Experts::softmax},
    {.name = "qwen2", .rope_mode = GGML_ROPE_TYPE_NEOX},
    {.name = "qwen3", .rope_mode = GGML_ROPE_TYPE_NEOX, .qk_norm = QkNorm::heads},
    {.name = "qwen3moe",
     .rope_mode = GGML_ROPE_TYPE_NEOX,
     .qk_norm = QkNorm::heads,
     .experts = Experts::softmax,
     .needs_experts = true},
    {.name = "gemma2",
     .rope_mode = GGML_ROPE_TYPE_NEOX,
     .activation = Activation::gelu,
     .swa_period = 2,
     .wide_scale_layers = 46,
     .default_swa = 4096,
     .attn_softcap = 50,
     .final_softcap = 30,
     .post_norm = true,
     .scales_embeddings = true},
    {.name = "gemma3",
     .rope_mode = GGML_ROPE_TYPE_NEOX,
     .qk_norm = QkNorm::heads,
     .activation = Activation::gelu,
     .swa_period = 6,
     .swa_rope_freq_base = 10000,
     .wide_scale_layers = 62,
     .final_softcap = 0,
     .post_norm = true,
     .scales_embeddings = true,
     .swa_rope_is_plain = true},
    // Phi 3 and 4. Converters wrote sliding windows that these models do not have.
    {.name = "phi3", .rope_mode = GGML_ROPE_TYPE_NEOX, .fused_gate = true, .ignores_swa = true},
    {.name = "gpt2",
     .norm = NormKind::layer,
     .activation = Activation::gelu,
     .gated = false,
     .learned_positions = true,
     .needs_biases = true},
    {.name = "gpt-oss",
     .ffn_norm = "post_attention_norm",
     .rope_mode = GGML_ROPE_TYPE_NEOX,
     .activation = Activation::swiglu_oai,
     .experts = Experts::softmax_of_chosen,
     .swa_period = 2,
     .default_swa = std::nullopt,
     .sinks = true,
     .needs_experts = true,
     .needs_biases = true,
     .needs_output = true},
    {.name = "smollm3", .no_rope_step = 4},
    {.name = "granite", .granite_scales = true},
    // OLMo 2 and 3
    {.name = "olmo2",
     .rope_mode = GGML_ROPE_TYPE_NEOX,
     .qk_norm = QkNorm::all,
     .swa_period = 4,
     .pre_norm = false,
     .post_norm = true,
     .swa_rope_is_plain = true,
     .needs_output = true},
};

}  // namespace

std::span<const Architecture> architectures() {
    return kArchitectures;
}

const Architecture* find_architecture(std::string_view name) {
    const auto* found = std::ranges::find(kArchitectures, name, &Architecture::name);
    return found == std::end(kArchitectures) ? nullptr : found;
}

std::string architecture_names() {
    std::string names;
    for (const auto& architecture : kArchitectures)
        names += (names.empty() ? "" : ", ") + std::string(architecture.name);
    return names;
}

}  // namespace cake
