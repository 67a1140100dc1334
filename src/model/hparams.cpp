#include "model/hparams.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include "model/key_reader.hpp"
#include "model/layer_kinds.hpp"

namespace cake {

namespace {

/// Files that were converted before 2025-04 lack key_length_mla: they have one projection for K and V instead of two.
void read_latent(KeyReader& keys, Hparams& h) {
    keys.ignore("attention.q_lora_rank");  // the tensors say it
    h.latent = Latent{.n_lora_kv = keys.count("attention.kv_lora_rank", 1, kMaxWidth),
                      .head_dim_k = keys.count("attention.key_length_mla", 1, kMaxWidth),
                      .head_dim_v = keys.count("attention.value_length_mla", 1, kMaxWidth)};
    const int32_t n_rot = keys.count("rope.dimension_count", 1, kMaxWidth, h.head_dim_k);
    if (h.n_head_kv != 1 || h.head_dim_v != h.latent.n_lora_kv || h.head_dim_k != h.head_dim_v + n_rot ||
        h.latent.head_dim_k <= n_rot) {
        keys.note("key_length, value_length, kv_lora_rank and rope.dimension_count do not fit together");
    }
}

/// Widths of heads in layers with a sliding window.
void read_swa_widths(KeyReader& keys, Hparams& h) {
    auto& swa = h.swa_heads;
    swa.head_dim_k = h.head_dim_k;
    swa.head_dim_v = h.head_dim_v;
    if (!h.architecture->swa_heads) {
        keys.require("attention.key_length_swa", h.head_dim_k);
        return keys.require("attention.value_length_swa", h.head_dim_v);
    }
    swa.head_dim_k = keys.count("attention.key_length_swa", 1, kMaxWidth, h.head_dim_k);
    swa.head_dim_v = keys.count("attention.value_length_swa", 1, kMaxWidth, h.head_dim_v);
    if (h.architecture->value_norm && (h.head_dim_k != h.head_dim_v || swa.head_dim_k != swa.head_dim_v))
        keys.note("attention.key_length and attention.value_length differ");
}

void read_sizes(KeyReader& keys, Hparams& h) {
    h.n_block_all = h.n_block = keys.count("block_count", 1, 4096);
    if (h.architecture->next_token_layers)
        h.n_block -= keys.count("nextn_predict_layers", 0, static_cast<uint32_t>(h.n_block_all) - 1, 0);
    else
        keys.require("nextn_predict_layers", 0);
    read_blocks(keys, h);
    h.n_ctx_train = keys.count("context_length", 1, kMaxTokens);
    h.n_embd = keys.count("embedding_length", 1, kMaxWidth);
    h.n_head = keys.count_of_layers("attention.head_count", h.n_block_all, 1, kMaxHeads);
    read_attention_kinds(keys, h);
    read_kv_heads(keys, h);
    if (h.n_embd % h.n_head != 0 && !keys.has("attention.key_length")) {
        keys.note(fmt::format("embedding_length {} is not a multiple of attention.head_count {}", h.n_embd, h.n_head));
    }
    for (const int32_t n : {h.n_head_kv, h.swa_heads.n_head_kv}) {
        if (h.n_head % n != 0)
            keys.note(
                fmt::format("attention.head_count {} is not a multiple of attention.head_count_kv {}", h.n_head, n));
    }
    const int32_t head_dim = std::max(h.n_embd / h.n_head, 1);
    h.head_dim_k = keys.count("attention.key_length", 1, kMaxWidth, head_dim);
    h.head_dim_v = keys.count("attention.value_length", 1, kMaxWidth, head_dim);
    if (h.architecture->attention_gate == AttentionGate::with_queries && h.head_dim_k != h.head_dim_v)
        keys.note("attention.key_length and attention.value_length differ, and a gate of each query has one length");
    if (h.architecture->latent) read_latent(keys, h);
    read_swa_widths(keys, h);
    read_recurrence(keys, h);
    if (h.architecture->layer_embeddings)
        h.n_embd_per_layer = keys.count("embedding_length_per_layer_input", 0, kMaxWidth, 0);
    if (h.architecture->separate_blocks) keys.ignore("attention.layer_norm_epsilon");  // stated beside the other
    h.norm_eps = keys.positive(h.architecture->norm == NormKind::rms ? "attention.layer_norm_rms_epsilon"
                                                                     : "attention.layer_norm_epsilon");
}

/// How the chosen experts are weighted.
void read_gating(KeyReader& keys, Hparams& h) {
    const auto& traits = h.architecture->experts;
    h.expert_gating = traits.gating;
    h.expert_weights_norm = traits.normalised;
    if (!traits.stated) {
        keys.require("expert_gating_func", static_cast<double>(traits.gating));
        keys.require("expert_weights_norm", traits.normalised ? 1 : 0);
        return keys.require("expert_weights_scale", 1);
    }
    const int32_t gating = keys.count("expert_gating_func", 0, 3, 0);
    if (gating > 0) {
        h.expert_gating = static_cast<Gating>(gating);
    } else if (keys.has_tensor(fmt::format("blk.{}.exp_probs_b.bias", h.n_layer_dense_lead))) {
        h.expert_gating = Gating::sigmoid;  // early files of GLM 4.7 Flash do not state it
    }
    h.expert_weights_norm = keys.flag("expert_weights_norm", traits.normalised);
    h.expert_weights_scale = keys.positive("expert_weights_scale", 1);
}

/// Widths of the dense feed-forward. Only some families have different ones.
void read_feed_forward_widths(KeyReader& keys, Hparams& h, std::optional<int32_t> fallback) {
    const auto& a = *h.architecture;
    const std::string key = "feed_forward_length";
    constexpr uint32_t kMost = kMaxWidth * 8;
    if (a.shared_kv || a.separate_blocks) {
        h.n_ff_blocks = keys.counts(key, h.n_block_all, a.separate_blocks ? 0 : 1, kMost, fallback);
    } else {
        const int32_t width = keys.count_of_layers(key, h.n_block_all, 1, kMost, fallback);
        h.n_ff_blocks.assign(static_cast<size_t>(h.n_block_all), width);
    }
    h.n_ff = std::ranges::max(h.n_ff_blocks);
}

/// From which experts a token chooses.
void read_expert_groups(KeyReader& keys, Hparams& h) {
    h.n_expert_groups = std::max(keys.count("expert_group_count", 0, static_cast<uint32_t>(h.n_expert), 0), 1);
    const auto most = static_cast<uint32_t>(h.n_expert_groups);
    h.n_group_used = std::max(keys.count("expert_group_used_count", 0, most, 0), 1);
    if (h.n_expert_groups == 1) return;
    const int32_t size = h.n_expert / h.n_expert_groups;
    if (h.n_expert % h.n_expert_groups != 0 || size < 2 || h.n_group_used * size < h.n_expert_used) {
        keys.note(
            fmt::format("expert_group_count {} and expert_group_used_count {} do not go with {} experts, of which {} "
                        "are used",
                        h.n_expert_groups, h.n_group_used, h.n_expert, h.n_expert_used));
    }
}

void read_shared_experts(KeyReader& keys, Hparams& h) {
    const auto shared = h.architecture->experts.shared;
    if (shared == SharedExperts::none) {
        keys.require("expert_shared_count", 0);
        return keys.require("expert_shared_feed_forward_length", 0);
    }
    // The tensors say how wide they are.
    const int32_t n = keys.count("expert_shared_count", 0, 4096, 0);
    const int32_t width = keys.count("expert_shared_feed_forward_length", 0, kMaxWidth * 8, 0);
    h.has_shared_experts = shared == SharedExperts::always || n > 0 || width > 0;
}

void read_feed_forward(KeyReader& keys, Hparams& h) {
    const auto& traits = h.architecture->experts;
    const bool needed = traits.needed;
    if (!traits.possible)
        keys.require("expert_count", 0);
    else
        h.n_expert = keys.count("expert_count", needed ? 1 : 0, 4096, needed ? std::nullopt : std::optional(0));
    if (h.n_expert == 0) {
        for (const auto* unused :
             {"expert_used_count", "expert_feed_forward_length", "leading_dense_block_count", "expert_shared_count",
              "expert_shared_feed_forward_length", "expert_weights_scale", "expert_weights_norm", "expert_gating_func"})
            keys.ignore(unused);
        read_feed_forward_widths(keys, h, std::nullopt);
        return;
    }
    h.n_expert_used = keys.count("expert_used_count", 1, static_cast<uint32_t>(h.n_expert));
    // Some files state the width of an expert only in feed_forward_length, some in both keys.
    const bool has_width = keys.has("expert_feed_forward_length");
    if (has_width) h.n_ff_exp = keys.count("expert_feed_forward_length", 1, kMaxWidth * 8);
    read_feed_forward_widths(keys, h, has_width ? std::optional(h.n_ff_exp) : std::nullopt);
    if (!has_width) h.n_ff_exp = h.n_ff;
    if (traits.dense_lead)
        h.n_layer_dense_lead = keys.count("leading_dense_block_count", 0, static_cast<uint32_t>(h.n_layer), 0);
    else
        keys.require("leading_dense_block_count", 0);
    keys.require("interleave_moe_layer_step", 1);
    read_gating(keys, h);
    read_expert_groups(keys, h);
    read_shared_experts(keys, h);
}

/// As in llama.cpp: without a type, scaling is linear; its factor has a new and an old key.
Rope read_rope(KeyReader& keys, Hparams& h) {
    Rope rope;
    rope.freq_base = keys.positive("rope.freq_base", 10000);
    rope.n_ctx_orig = keys.count("rope.scaling.original_context_length", 1, kMaxTokens, h.n_ctx_train);
    const std::string type = keys.text("rope.scaling.type", "linear");
    const float old_factor = keys.positive("rope.scale_linear", 1);
    const float factor = keys.positive("rope.scaling.factor", old_factor);
    if (type != "none" && type != "linear" && type != "yarn" && type != "longrope") {
        keys.wrong(
            "rope.scaling.type",
            fmt::format("is \"{}\"; none, linear, yarn and longrope are supported, and Llama 3's rope_freqs tensor",
                        type),
            Error::Code::unsupported);
    }
    if (type != "none") rope.freq_scale = 1 / factor;
    rope.attn_factor = keys.positive("rope.scaling.attn_factor", 1);
    if (type == "yarn") {
        rope.ext_factor = keys.positive("rope.scaling.yarn_ext_factor", 1);
        // llama.cpp does not read the first, and computes what the second says from the factor.
        keys.ignore("rope.scaling.yarn_truncate");
        keys.ignore("rope.scaling.yarn_attn_factor");
        // ggml multiplies by 1 + 0.1 ln(factor) on its own. For a factor below 1, this is undone.
        if (factor < 1) rope.attn_factor /= 1 + 0.1F * std::log(factor);
        if (h.architecture->temperature) {
            // Converters of models with latent attention wrote a tenth of the multiplier, which attention_scale has
            // too.
            const float multiplier = keys.not_negative("rope.scaling.yarn_log_multiplier", 0);
            float magnitude = multiplier;
            if (h.has_latent() && multiplier > 0) magnitude = h.architecture->unit_magnitude ? 1 : 10 * multiplier;
            const auto stretch = [&](float m) { return factor > 1 ? 1 + 0.1F * m * std::log(factor) : 1; };
            // As llama.cpp does, so that the result is rounded alike.
            rope.attn_factor *= stretch(1) / stretch(magnitude) * (1 / stretch(1));
            if (h.has_latent()) h.latent.yarn_log_multiplier = 10 * multiplier;
        }
        rope.beta_fast = keys.positive("rope.scaling.yarn_beta_fast", 32);
        rope.beta_slow = keys.positive("rope.scaling.yarn_beta_slow", 1);
    }
    if (!h.architecture->temperature) keys.require("rope.scaling.yarn_log_multiplier", 0);
    keys.require("rope.scaling.alpha", 0);
    return rope;
}

void read_rope_sections(KeyReader& keys, Hparams& h) {
    const std::string key = "rope.dimension_sections";
    const auto sections = keys.integers(key);
    const bool all_good = std::ranges::all_of(sections, [&](int32_t n) { return n >= 0 && n <= h.n_rot; });
    if (sections.size() < 3 || sections.size() > h.rope_sections.size() || !all_good ||
        sections[0] + sections[1] == 0 || std::reduce(sections.begin(), sections.end(), int64_t{0}) > h.n_rot / 2)
        return keys.wrong(key, fmt::format("must be an array of 3 or 4 widths that add up to at most {}", h.n_rot / 2));
    std::ranges::copy(sections, h.rope_sections.begin());
    keys.ignore("n_deepstack_layers");  // layers that read parts of images
}

void read_rotation(KeyReader& keys, Hparams& h) {
    const auto& a = *h.architecture;
    h.rotates = !a.learned_positions && !a.no_rope;
    if (a.granite_scales)
        h.rotates = keys.flag("rope.scaling.finetuned", true);  // in Granite models, false turns rotation off
    else
        keys.ignore("rope.scaling.finetuned");
    h.n_rot = keys.count("rope.dimension_count", 1, kMaxWidth, h.head_dim_k);
    if (h.rotates && (h.n_rot > h.head_dim_k || h.n_rot % 2 != 0)) {
        keys.note(fmt::format("rope.dimension_count {} must be even and at most the head's {}", h.n_rot, h.head_dim_k));
    }
    if (!a.learned_positions) h.rope = read_rope(keys, h);
    h.rope_swa = h.rope;
    if (a.swa_rope_is_plain) h.rope_swa = {.freq_base = h.rope.freq_base, .n_ctx_orig = h.rope.n_ctx_orig};
    if (a.swa_rope_freq_base > 0) h.rope_swa.freq_base = a.swa_rope_freq_base;
    h.rope_swa.freq_base = keys.positive("rope.freq_base_swa", h.rope_swa.freq_base);
    h.rope_mode = a.rope_sections && keys.has("rope.dimension_sections") ? GGML_ROPE_TYPE_MROPE : a.rope_mode;
    if (h.has_rope_sections()) read_rope_sections(keys, h);
    h.swa_heads.n_rot = h.n_rot;
    if (!a.swa_heads) return keys.require("rope.dimension_count_swa", h.n_rot);
    const int32_t swa_rot = keys.count("rope.dimension_count_swa", 1, kMaxWidth, h.swa_heads.head_dim_k);
    if (swa_rot > h.swa_heads.head_dim_k || swa_rot % 2 != 0) {
        keys.note(fmt::format("rope.dimension_count_swa {} must be even and at most the head's {}", swa_rot,
                              h.swa_heads.head_dim_k));
    }
    h.swa_heads.n_rot = swa_rot;
}

/// YaRN's magnitude is part of the scale of the attention logits, since only a part of a query rotates.
float latent_scale(const Hparams& h) {
    const float stretch = 0.1F * std::log(1 / h.rope.freq_scale);
    const float magnitude = h.rope.attn_factor * (1 + stretch) * (1 + h.latent.yarn_log_multiplier * stretch);
    return magnitude * magnitude / std::sqrt(static_cast<float>(h.latent.head_dim_k));
}

void read_scales(KeyReader& keys, Hparams& h) {
    const auto& a = *h.architecture;
    const bool wide = a.wide_scale_layers > 0 && h.n_layer == a.wide_scale_layers;
    h.attention_scale = 1.0F / std::sqrt(static_cast<float>(wide ? std::max(h.n_embd / h.n_head, 1) : h.head_dim_k));
    if (a.unscaled_attention) h.attention_scale = 1;
    if (h.has_latent()) h.attention_scale = latent_scale(h);
    if (a.scales_embeddings) h.embedding_scale = std::sqrt(static_cast<float>(h.n_embd));
    if (a.granite_scales) {
        h.attention_scale = keys.positive("attention.scale", h.attention_scale);
        h.embedding_scale = keys.positive("embedding_scale", 1);
        h.residual_scale = keys.positive("residual_scale", 1);
        const bool needed = a.recurrence == Recurrence::none;
        h.logit_scale = 1 / keys.positive("logit_scale", needed ? std::nullopt : std::optional(1.0F));
    }
    if (a.multiplies_logits) h.logit_scale = keys.positive("logit_scale", 1);
    if (a.temperature) {
        h.temperature_scale = keys.not_negative("attention.temperature_scale", 0);
        h.temperature_length = keys.count("attention.temperature_length", 1, kMaxTokens, h.rope.n_ctx_orig);
    }
    if (a.attn_softcap) h.attn_softcap = keys.positive("attn_logit_softcapping", a.attn_softcap);
    if (a.final_softcap) h.final_softcap = keys.positive("final_logit_softcapping", a.final_softcap);
}

/// The keys have no prefix.
void read_xielu(KeyReader& keys, Hparams& h) {
    const auto alpha_n = keys.numbers("xielu.alpha_n", h.n_layer);
    const auto alpha_p = keys.numbers("xielu.alpha_p", h.n_layer);
    const auto beta = keys.numbers("xielu.beta", h.n_layer);
    const auto eps = keys.numbers("xielu.eps", h.n_layer);
    for (size_t i = 0; i < alpha_n.size(); i++) h.xielu.push_back({alpha_n[i], alpha_p[i], beta[i], eps[i]});
}

/// Reads the number of logits, which may be larger than the number of tokens in the vocabulary.
Result<int32_t> read_n_vocab(const GgufFile& file) {
    const ggml_tensor* embeddings = file.tensor("token_embd.weight");
    if (embeddings == nullptr) {
        return fail(Error::Code::corrupt,
                    file.path() + (file.tensors().empty()
                                       ? ": contains a vocabulary but no weights; pass the file of a complete model"
                                       : ": the tensor token_embd.weight is missing"));
    }
    if (embeddings->ne[1] > (1 << 26))
        return fail(Error::Code::corrupt, file.path() + ": the tensor token_embd.weight has too many rows");
    return static_cast<int32_t>(embeddings->ne[1]);
}

}  // namespace

float Hparams::temperature(int64_t position) const {
    const int64_t n_periods = position / temperature_length;
    return 1 + temperature_scale * std::log1p(static_cast<float>(n_periods));
}

Result<Hparams> read_hparams(const GgufFile& file) {
    const auto name = file.string("general.architecture");
    if (!name) return std::unexpected(name.error());
    if (!name->has_value())
        return fail(Error::Code::corrupt, file.path() + ": the metadata value general.architecture is missing");
    Hparams h;
    h.architecture = find_architecture(**name);
    if (h.architecture == nullptr) {
        return fail(Error::Code::unsupported,
                    fmt::format("{}: the architecture \"{}\" is not supported; supported architectures: {}",
                                file.path(), **name, architecture_names()));
    }
    const auto title = file.string("general.name");
    h.name = title && title->has_value() ? **title : std::string(h.architecture->name);

    KeyReader keys(file, h.architecture->name);
    read_sizes(keys, h);
    if (!keys.error()) {  // the other values are derived from the sizes
        read_feed_forward(keys, h);
        read_rotation(keys, h);
        read_scales(keys, h);
        if (h.architecture->activation == Activation::xielu) read_xielu(keys, h);
        for (const auto* harmless : {"vocab_size", "tensor_data_layout"}) keys.ignore(harmless);
        keys.require("attention.causal", 1);
        keys.refuse_unknown();
    }
    if (keys.error()) return std::unexpected(*keys.error());
    const auto n_vocab = read_n_vocab(file);
    if (!n_vocab) return std::unexpected(n_vocab.error());
    h.n_vocab = *n_vocab;
    return h;
}

}  // namespace cake
