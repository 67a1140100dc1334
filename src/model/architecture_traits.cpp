#include <fmt/format.h>

#include <string>
#include <string_view>

#include "model/architecture.hpp"

namespace cake {

std::string architecture_traits(const Architecture& a) {
    std::string traits;
    const auto add = [&](bool has, std::string_view what) {
        if (has) traits += (traits.empty() ? "" : "; ") + std::string(what);
    };
    add(a.experts.possible, a.experts.needed ? "experts" : "experts, if the file has them");
    add(a.experts.shared != SharedExperts::none, "shared experts");
    add(a.experts.dense_lead, "dense first layers");
    add(a.experts.reads_layer_input, "experts chosen before attention");
    add(a.experts.beside_dense, "a dense feed-forward beside the experts");
    add(a.swa_period > 0, fmt::format("sliding windows in {} of {} layers", a.swa_period - 1, a.swa_period));
    add(a.swa_heads, "other KV heads in layers with windows");
    add(a.shared_kv, "the last layers may read K and V of earlier ones");
    add(a.layer_embeddings, "embeddings for each layer");
    add(a.swa_n_layer > 0, fmt::format("the windows only with {} layers", a.swa_n_layer));
    add(a.swa_rope_only, "RoPE only in layers with windows");
    add(a.swa_rope_is_plain, "unscaled RoPE in layers with windows");
    add(a.no_rope_step > 0, fmt::format("no RoPE in one of {} layers", a.no_rope_step));
    add(a.qk_norm == QkNorm::heads_if_stored, "normalised queries and keys, if the file has the norms");
    add(a.qk_norm != QkNorm::none && a.qk_norm != QkNorm::heads_if_stored, "normalised queries and keys");
    add(a.norm == NormKind::layer, "LayerNorm");
    add(a.post_norm,
        a.pre_norm ? "norms also after attention and feed-forward" : "norms only after attention and feed-forward");
    add(a.parallel, "attention and feed-forward side by side");
    add(a.attention_gate != AttentionGate::none, "gated attention");
    add(a.recurrence == Recurrence::short_convolution, "short convolutions in some layers");
    add(a.recurrence == Recurrence::delta_net, "gated DeltaNet in some layers");
    add(a.recurrence == Recurrence::mamba2,
        a.recurrence_beside ? "Mamba-2 beside attention" : "Mamba-2 in some layers");
    add(a.fused_gate, "a fused gate");
    add((a.rope_mode & GGML_ROPE_TYPE_MROPE) != 0, "multi-section RoPE");
    add(a.latent, "latent attention, whose cache is one vector for all heads");
    add(a.sinks, "attention sinks");
    add(a.temperature, "queries that grow with the position");
    add(a.attn_softcap.has_value() || a.final_softcap.has_value(), "soft caps");
    add(a.no_rope, "no positions");
    add(a.learned_positions, "learned positions, which limit the text to the trained context");
    add(!a.gated, "no gate in the feed-forward");
    add(a.granite_scales, "scaled embeddings, residuals, attention and logits");
    add(a.next_token_layers, "layers for further tokens are left out");
    return traits.empty() ? "the common structure" : traits;
}

}  // namespace cake
