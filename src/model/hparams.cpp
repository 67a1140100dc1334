#include "model/hparams.hpp"

#include <algorithm>
#include <cmath>
#include <format>
#include <functional>

#include "model/key_reader.hpp"

namespace cake {

namespace {

constexpr uint32_t kMaxWidth = 1U << 20U;
constexpr uint32_t kMaxTokens = 1U << 30U;

void read_sizes(KeyReader& keys, Hparams& h) {
    h.n_layer = keys.count("block_count", 1, 4096);
    h.n_ctx_train = keys.count("context_length", 1, kMaxTokens);
    h.n_embd = keys.count("embedding_length", 1, kMaxWidth);
    h.n_head = keys.count("attention.head_count", 1, 65536);
    h.n_head_kv = keys.count("attention.head_count_kv", 1, 65536, h.n_head);
    if (h.n_embd % h.n_head != 0 && !keys.has("attention.key_length")) {
        keys.note(std::format("embedding_length {} is not a multiple of attention.head_count {}", h.n_embd, h.n_head));
    }
    if (h.n_head % h.n_head_kv != 0) {
        keys.note(std::format("attention.head_count {} is not a multiple of attention.head_count_kv {}", h.n_head,
                              h.n_head_kv));
    }
    const int32_t head_dim = std::max(h.n_embd / h.n_head, 1);
    h.head_dim_k = keys.count("attention.key_length", 1, kMaxWidth, head_dim);
    h.head_dim_v = keys.count("attention.value_length", 1, kMaxWidth, head_dim);
    h.norm_eps = keys.positive(h.architecture->norm == NormKind::rms ? "attention.layer_norm_rms_epsilon"
                                                                     : "attention.layer_norm_epsilon");
}

void read_feed_forward(KeyReader& keys, Hparams& h) {
    const auto experts = h.architecture->experts;
    const bool needed = h.architecture->needs_experts;
    if (experts == Experts::none)
        keys.require("expert_count", 0);
    else
        h.n_expert = keys.count("expert_count", needed ? 1 : 0, 4096, needed ? std::nullopt : std::optional(0));
    if (h.n_expert == 0) {
        keys.ignore("expert_used_count");
        keys.ignore("expert_feed_forward_length");
        h.n_ff = keys.count("feed_forward_length", 1, kMaxWidth * 8);
        return;
    }
    h.n_expert_used = keys.count("expert_used_count", 1, static_cast<uint32_t>(h.n_expert));
    // Some files state the width of an expert only in feed_forward_length, some in both keys.
    const bool has_width = keys.has("expert_feed_forward_length");
    if (has_width) h.n_ff_exp = keys.count("expert_feed_forward_length", 1, kMaxWidth * 8);
    h.n_ff = keys.count("feed_forward_length", 1, kMaxWidth * 8, has_width ? std::optional(h.n_ff_exp) : std::nullopt);
    if (!has_width) h.n_ff_exp = h.n_ff;
    keys.require("expert_weights_scale", 1);
    keys.require("expert_shared_count", 0);
    keys.require("expert_group_count", 0);
    keys.require("expert_group_used_count", 0);
    keys.require("expert_shared_feed_forward_length", 0);
    const bool of_all = experts == Experts::softmax;
    keys.require("expert_gating_func", of_all ? 1 : 3);  // numbering of llama.cpp
    keys.require("expert_weights_norm", of_all ? 1 : 0);
}

/// As in llama.cpp: without a type, scaling is linear; its factor has a new and an old key.
Rope read_rope(KeyReader& keys, const Hparams& h) {
    Rope rope;
    rope.freq_base = keys.positive("rope.freq_base", 10000);
    rope.n_ctx_orig = keys.count("rope.scaling.original_context_length", 1, kMaxTokens, h.n_ctx_train);
    const std::string type = keys.text("rope.scaling.type", "linear");
    const float old_factor = keys.positive("rope.scale_linear", 1);
    const float factor = keys.positive("rope.scaling.factor", old_factor);
    if (type != "none" && type != "linear" && type != "yarn" && type != "longrope") {
        keys.wrong(
            "rope.scaling.type",
            std::format("is \"{}\"; none, linear, yarn and longrope are supported, and Llama 3's rope_freqs tensor",
                        type),
            Error::Code::unsupported);
    }
    if (type != "none") rope.freq_scale = 1 / factor;
    rope.attn_factor = keys.positive("rope.scaling.attn_factor", 1);
    if (type == "yarn") {
        rope.ext_factor = keys.positive("rope.scaling.yarn_ext_factor", 1);
        keys.require("rope.scaling.yarn_attn_factor", 1);
        // ggml multiplies by 1 + 0.1 ln(factor) on its own. For a factor below 1, this is undone.
        if (factor < 1) rope.attn_factor /= 1 + 0.1F * std::log(factor);
        rope.beta_fast = keys.positive("rope.scaling.yarn_beta_fast", 32);
        rope.beta_slow = keys.positive("rope.scaling.yarn_beta_slow", 1);
    }
    keys.require("rope.scaling.yarn_log_multiplier", 0);
    keys.require("rope.scaling.alpha", 0);
    return rope;
}

void read_rotation(KeyReader& keys, Hparams& h) {
    const auto& a = *h.architecture;
    h.rotates = !a.learned_positions;
    if (a.granite_scales)
        h.rotates = keys.flag("rope.scaling.finetuned", true);  // in Granite models, false turns rotation off
    else
        keys.ignore("rope.scaling.finetuned");
    h.n_rot = keys.count("rope.dimension_count", 1, kMaxWidth, h.head_dim_k);
    if (h.rotates && (h.n_rot > h.head_dim_k || h.n_rot % 2 != 0)) {
        keys.note(std::format("rope.dimension_count {} must be even and at most the head's {}", h.n_rot, h.head_dim_k));
    }
    if (!a.learned_positions) h.rope = read_rope(keys, h);
    h.rope_swa = h.rope;
    if (a.swa_rope_is_plain) h.rope_swa = {.freq_base = h.rope.freq_base, .n_ctx_orig = h.rope.n_ctx_orig};
    if (a.swa_rope_freq_base > 0) h.rope_swa.freq_base = a.swa_rope_freq_base;
    h.rope_swa.freq_base = keys.positive("rope.freq_base_swa", h.rope_swa.freq_base);
    keys.require("rope.dimension_count_swa", h.n_rot);
    keys.require("attention.key_length_swa", h.head_dim_k);
    keys.require("attention.value_length_swa", h.head_dim_v);
}

void read_windows(KeyReader& keys, Hparams& h) {
    const auto& a = *h.architecture;
    h.swa_layers.assign(static_cast<size_t>(h.n_layer), false);
    if (a.ignores_swa) {
        keys.ignore("attention.sliding_window");
        keys.ignore("attention.sliding_window_pattern");
        return;
    }
    if (a.swa_period == 0) return keys.require("attention.sliding_window", 0);
    h.n_swa = keys.count("attention.sliding_window", 0, kMaxTokens, a.default_swa);
    auto swa_layers = keys.pattern("attention.sliding_window_pattern", h.n_layer, a.swa_period);
    if (h.n_swa == 0) return;
    if (std::ranges::all_of(swa_layers, std::identity{}))
        keys.note("no layer attends to the whole text, so there is no cache to evict from", Error::Code::unsupported);
    h.swa_layers = std::move(swa_layers);
}

void read_scales(KeyReader& keys, Hparams& h) {
    const auto& a = *h.architecture;
    const bool wide = a.wide_scale_layers > 0 && h.n_layer == a.wide_scale_layers;
    h.attention_scale = 1.0F / std::sqrt(static_cast<float>(wide ? std::max(h.n_embd / h.n_head, 1) : h.head_dim_k));
    if (a.scales_embeddings) h.embedding_scale = std::sqrt(static_cast<float>(h.n_embd));
    if (a.granite_scales) {
        h.attention_scale = keys.positive("attention.scale", h.attention_scale);
        h.embedding_scale = keys.positive("embedding_scale", 1);
        h.residual_scale = keys.positive("residual_scale", 1);
        h.logit_scale = 1 / keys.positive("logit_scale");
    }
    if (a.attn_softcap) h.attn_softcap = keys.positive("attn_logit_softcapping", a.attn_softcap);
    if (a.final_softcap) h.final_softcap = keys.positive("final_logit_softcapping", a.final_softcap);
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

Result<Hparams> read_hparams(const GgufFile& file) {
    const auto name = file.string("general.architecture");
    if (!name) return std::unexpected(name.error());
    if (!name->has_value())
        return fail(Error::Code::corrupt, file.path() + ": the metadata value general.architecture is missing");
    Hparams h;
    h.architecture = find_architecture(**name);
    if (h.architecture == nullptr) {
        return fail(Error::Code::unsupported,
                    std::format("{}: the architecture \"{}\" is not supported; supported architectures: {}",
                                file.path(), **name, architecture_names()));
    }
    const auto title = file.string("general.name");
    h.name = title && title->has_value() ? **title : std::string(h.architecture->name);

    KeyReader keys(file, h.architecture->name);
    read_sizes(keys, h);
    if (!keys.error()) {  // the other values are derived from the sizes
        read_feed_forward(keys, h);
        read_rotation(keys, h);
        read_windows(keys, h);
        read_scales(keys, h);
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
