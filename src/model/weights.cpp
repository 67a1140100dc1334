#include "model/weights.hpp"

#include <fmt/format.h>

#include <array>
#include <string>

namespace cake {

namespace {

class LayerTaker {
  public:
    LayerTaker(TensorLoader& tensors, const Hparams& hparams, int32_t layer)
        : tensors_(tensors),
          h_(hparams),
          a_(*hparams.architecture),
          layer_(layer),
          prefix_(prefix_of(hparams.blocks_of(layer).mixer)) {}

    LayerWeights take() {
        if (h_.has_state(layer_)) take_recurrence(h_.recurrent);
        if (h_.has_latent())
            take_latent_attention(h_.latent);
        else if (!h_.is_recurrent(layer_))
            take_attention();
        if (h_.has_feed_forward(layer_)) take_second_part();
        if (a_.post_norm) {
            w_.attn_post_norm = norm("post_attention_norm");
            w_.ffn_post_norm = norm("post_ffw_norm");
        }
        if (h_.n_embd_per_layer > 0) take_layer_embedding();
        if (a_.layer_scale)
            w_.layer_output_scale = tensors_.optional(name("layer_output_scale.weight"), {1}, TensorUse::vector);
        return w_;
    }

  private:
    static std::string prefix_of(int32_t block) { return fmt::format("blk.{}.", block); }
    std::string name(std::string_view rest) const { return prefix_ + std::string(rest); }
    Norm norm(std::string_view rest) { return tensors_.norm(name(rest), h_.n_embd, a_.norm_bias); }

    void take_second_part() {
        prefix_ = prefix_of(h_.blocks_of(layer_).feed_forward);
        if (a_.recurrence_beside && tensors_.has(name(a_.ffn_norm)))  // as files of Falcon H1 name it
            w_.ffn_norm.weight = tensors_.required(name(a_.ffn_norm), {h_.n_embd}, TensorUse::vector);
        else if (a_.pre_norm && !a_.parallel)
            w_.ffn_norm = norm(a_.ffn_norm);
        if (h_.has_experts(layer_))
            take_experts();
        else
            take_feed_forward();
    }

    void take_attention() {
        const int64_t per_head = a_.attention_gate == AttentionGate::with_queries ? 2 : 1;
        const KvHeads heads = h_.heads_of(layer_);
        const int64_t q = static_cast<int64_t>(heads.head_dim_k) * h_.n_head * per_head;
        const int64_t k = static_cast<int64_t>(heads.head_dim_k) * heads.n_head_kv;
        const int64_t v = static_cast<int64_t>(heads.head_dim_v) * heads.n_head_kv;
        if (a_.pre_norm) w_.attn_norm = norm("attn_norm");
        if (!a_.value_norm && tensors_.has(name("attn_qkv.weight"))) {
            w_.attn_q = tensors_.linear(name("attn_qkv"), h_.n_embd, q + k + v, a_.needs_biases);
        } else {
            w_.attn_q = tensors_.linear(name("attn_q"), h_.n_embd, q, a_.needs_biases);
            if (h_.has_kv(layer_)) {
                w_.attn_k = tensors_.linear(name("attn_k"), h_.n_embd, k, a_.needs_biases);
                w_.v_is_k = a_.value_norm && !tensors_.has(name("attn_v.weight"));
                if (!w_.v_is_k) w_.attn_v = tensors_.linear(name("attn_v"), h_.n_embd, v, a_.needs_biases);
            } else {
                for (const auto* unused : {"attn_k.", "attn_v.", "attn_k_norm."}) tensors_.skip(name(unused));
            }
            tensors_.join(std::array{&w_.attn_q, &w_.attn_k, &w_.attn_v});
        }
        const bool has_norms = a_.qk_norm == QkNorm::heads_if_stored ? tensors_.has(name("attn_q_norm.weight"))
                                                                     : a_.qk_norm != QkNorm::none;
        if (has_norms) {
            const bool all = a_.qk_norm == QkNorm::all;
            w_.attn_q_norm = tensors_.norm(name("attn_q_norm"), all ? q : heads.head_dim_k).weight;
            if (h_.has_kv(layer_))
                w_.attn_k_norm = tensors_.norm(name("attn_k_norm"), all ? k : heads.head_dim_k).weight;
        }
        if (a_.sinks) w_.attn_sinks = tensors_.required(name("attn_sinks.weight"), {h_.n_head}, TensorUse::vector);
        const int64_t attended = static_cast<int64_t>(heads.head_dim_v) * h_.n_head;
        if (a_.attention_gate == AttentionGate::of_input)
            w_.attn_gate = tensors_.linear(name("attn_gate"), h_.n_embd, attended, false);
        w_.attn_output = tensors_.linear(name("attn_output"), attended, h_.n_embd, a_.needs_biases);
    }

    void take_recurrence(const Recurrent& r) {
        w_.attn_norm = norm("attn_norm");
        if (a_.recurrence == Recurrence::short_convolution) {
            w_.conv_in = tensors_.linear(name("shortconv.in_proj"), h_.n_embd, 3 * int64_t{h_.n_embd}, false);
            w_.conv = tensors_.required(name("shortconv.conv.weight"), {r.n_conv, h_.n_embd}, TensorUse::vector);
            w_.recurrent_output = tensors_.linear(name("shortconv.out_proj"), h_.n_embd, h_.n_embd, false);
            return;
        }
        w_.conv = tensors_.required(name("ssm_conv1d.weight"), {r.n_conv, r.n_channels}, TensorUse::vector);
        w_.recurrent_output = tensors_.linear(name("ssm_out"), r.value_width(), h_.n_embd, false);
        w_.ssm_dt = tensors_.required(name("ssm_dt.bias"), {r.n_head_v}, TensorUse::vector);
        if (a_.recurrence == Recurrence::mamba2) {
            w_.conv_in =
                tensors_.linear(name("ssm_in"), h_.n_embd, int64_t{r.value_width()} + r.n_channels + r.n_head_v, false);
            w_.conv_bias = tensors_.optional(name("ssm_conv1d.bias"), {r.n_channels}, TensorUse::vector);
            w_.ssm_a = tensors_.required(name("ssm_a"), {1, r.n_head_v}, TensorUse::vector);
            w_.ssm_d = tensors_.required(name("ssm_d"), {1, r.n_head_v}, TensorUse::vector);
            w_.ssm_norm.weight = tensors_.take(name("ssm_norm.weight"), {r.value_width() / r.n_head_k, r.n_head_k},
                                               TensorUse::vector, !a_.recurrence_beside);
            return;
        }
        if (a_.grouped_delta_heads && tensors_.has(name("ssm_in.weight"))) {
            w_.conv_in = tensors_.linear(name("ssm_in"), h_.n_embd, int64_t{r.n_channels} + r.value_width(), false);
        } else {
            w_.conv_in = tensors_.linear(name("attn_qkv"), h_.n_embd, r.n_channels, false);
            w_.attn_gate = tensors_.linear(name("attn_gate"), h_.n_embd, r.value_width(), false);
        }
        if (a_.grouped_delta_heads) {
            w_.ssm_ba = tensors_.linear(name("ssm_ba"), h_.n_embd, 2 * int64_t{r.n_head_v}, false);
        } else {
            w_.ssm_alpha = tensors_.linear(name("ssm_alpha"), h_.n_embd, r.n_head_v, false);
            w_.ssm_beta = tensors_.linear(name("ssm_beta"), h_.n_embd, r.n_head_v, false);
        }
        w_.ssm_a = tensors_.required(name("ssm_a"), {r.n_head_v}, TensorUse::vector);
        w_.ssm_norm = tensors_.norm(name("ssm_norm"), r.head_dim_v);
    }

    void take_latent_attention(const Latent& latent) {
        w_.attn_norm = norm("attn_norm");
        const int64_t q = static_cast<int64_t>(latent.head_dim_k) * h_.n_head;
        if (const int64_t n_lora_q = tensors_.rows(name("attn_q_a.weight")); n_lora_q > 0) {
            w_.attn_q_a = tensors_.linear(name("attn_q_a"), h_.n_embd, n_lora_q, false);
            w_.attn_q_a_norm = tensors_.norm(name("attn_q_a_norm"), n_lora_q);
            w_.attn_q = tensors_.linear(name("attn_q_b"), n_lora_q, q, false);
        } else {
            w_.attn_q = tensors_.linear(name("attn_q"), h_.n_embd, q, false);
        }
        w_.attn_kv_a_mqa = tensors_.linear(name("attn_kv_a_mqa"), h_.n_embd, h_.head_dim_k, false);
        w_.attn_kv_a_norm = tensors_.norm(name("attn_kv_a_norm"), latent.n_lora_kv);
        w_.attn_k_b = tensors_.required(name("attn_k_b.weight"),
                                        {latent.head_dim_k - h_.n_rot, latent.n_lora_kv, h_.n_head}, TensorUse::batch);
        w_.attn_v_b = tensors_.required(name("attn_v_b.weight"), {latent.n_lora_kv, latent.head_dim_v, h_.n_head},
                                        TensorUse::batch);
        w_.attn_output =
            tensors_.linear(name("attn_output"), static_cast<int64_t>(latent.head_dim_v) * h_.n_head, h_.n_embd, false);
    }

    void take_experts() {
        w_.ffn_gate_inp = tensors_.linear(name("ffn_gate_inp"), h_.n_embd, h_.n_expert, a_.needs_biases);
        if (a_.experts.selection_bias) take_selection_bias();
        if (a_.gated && tensors_.has(name("ffn_gate_up_exps.weight"))) {
            w_.ffn_gate = tensors_.experts(name("ffn_gate_up_exps"), h_.n_embd, 2 * int64_t{h_.n_ff_exp}, h_.n_expert,
                                           a_.needs_biases);
        } else {
            if (a_.gated)
                w_.ffn_gate =
                    tensors_.experts(name("ffn_gate_exps"), h_.n_embd, h_.n_ff_exp, h_.n_expert, a_.needs_biases);
            w_.ffn_up = tensors_.experts(name("ffn_up_exps"), h_.n_embd, h_.n_ff_exp, h_.n_expert, a_.needs_biases);
        }
        w_.ffn_down = tensors_.experts(name("ffn_down_exps"), h_.n_ff_exp, h_.n_embd, h_.n_expert, a_.needs_biases);
        if (h_.has_shared_experts) take_shared_experts();
        if (a_.experts.beside_dense) take_dense_beside_experts();
    }

    void take_dense_beside_experts() {
        take_shared_feed_forward("", h_.n_ff_of(layer_));
        w_.ffn_gate_inp_scale = tensors_.required(name("ffn_gate_inp.scale"), {h_.n_embd}, TensorUse::vector);
        w_.ffn_down_scale = tensors_.optional(name("ffn_down_exps.scale"), {h_.n_expert}, TensorUse::vector);
        w_.ffn_pre_norm_2 = norm("pre_ffw_norm_2");
        w_.ffn_post_norm_1 = norm("post_ffw_norm_1");
        w_.ffn_post_norm_2 = norm("post_ffw_norm_2");
    }

    void take_layer_embedding() {
        w_.per_layer_inp_gate = tensors_.linear(name("inp_gate"), h_.n_embd, h_.n_embd_per_layer, false);
        w_.per_layer_proj = tensors_.linear(name("proj"), h_.n_embd_per_layer, h_.n_embd, false);
        w_.per_layer_post_norm = norm("post_norm");
    }

    /// Hunyuan 3 names it without suffix.
    void take_selection_bias() {
        const auto* suffix = tensors_.has(name("exp_probs_b")) ? "exp_probs_b" : "exp_probs_b.bias";
        w_.exp_probs_b = tensors_.optional(name(suffix), {h_.n_expert}, TensorUse::vector);
    }

    /// What every token uses beside the experts. The names of its tensors end with `suffix`.
    void take_shared_feed_forward(std::string_view suffix, int64_t width) {
        const auto named = [&](std::string_view part) { return name(fmt::format("{}{}", part, suffix)); };
        if (a_.gated) w_.ffn_gate_shexp = tensors_.linear(named("ffn_gate"), h_.n_embd, width, false);
        w_.ffn_up_shexp = tensors_.linear(named("ffn_up"), h_.n_embd, width, false);
        w_.ffn_down_shexp = tensors_.linear(named("ffn_down"), width, h_.n_embd, false);
        if (a_.gated) tensors_.join(std::array{&w_.ffn_gate_shexp, &w_.ffn_up_shexp});
    }

    void take_shared_experts() {
        take_shared_feed_forward("_shexp", tensors_.rows(name("ffn_up_shexp.weight")));
        if (a_.experts.shared_gate)
            w_.ffn_gate_inp_shexp = tensors_.linear(name("ffn_gate_inp_shexp"), h_.n_embd, 1, false);
    }

    void take_feed_forward() {
        const int64_t n_ff = h_.n_ff_of(layer_);
        w_.ffn_down = tensors_.linear(name("ffn_down"), n_ff, h_.n_embd, a_.needs_biases);
        if (a_.fused_gate) {
            w_.ffn_gate = tensors_.linear(name("ffn_up"), h_.n_embd, 2 * n_ff, a_.needs_biases);
            return;
        }
        if (a_.gated) w_.ffn_gate = tensors_.linear(name("ffn_gate"), h_.n_embd, n_ff, a_.needs_biases);
        w_.ffn_up = tensors_.linear(name("ffn_up"), h_.n_embd, n_ff, a_.needs_biases);
        if (a_.gated) tensors_.join(std::array{&w_.ffn_gate, &w_.ffn_up});
    }

    TensorLoader& tensors_;
    const Hparams& h_;
    const Architecture& a_;
    int32_t layer_;
    std::string prefix_;
    LayerWeights w_;
};

void take_common(TensorLoader& tensors, const Hparams& h, Weights& w) {
    const auto& a = *h.architecture;
    w.token_embd = tensors.required("token_embd.weight", {h.n_embd, h.n_vocab}, TensorUse::table);
    if (a.learned_positions)
        w.position_embd = tensors.required("position_embd.weight", {h.n_embd, h.n_ctx_train}, TensorUse::table);
    if (h.n_embd_per_layer > 0) {
        const int64_t width = int64_t{h.n_embd_per_layer} * h.n_layer;
        w.per_layer_token_embd = tensors.required("per_layer_token_embd.weight", {width, h.n_vocab}, TensorUse::table);
        w.per_layer_model_proj = tensors.required("per_layer_model_proj.weight", {h.n_embd, width}, TensorUse::batch);
        w.per_layer_proj_norm = tensors.norm("per_layer_proj_norm", h.n_embd_per_layer);
        const auto* table = w.per_layer_token_embd;
        if (table != nullptr && h.n_embd_per_layer % ggml_blck_size(table->type) != 0)
            tensors.note("the embeddings for a layer in per_layer_token_embd.weight are no whole blocks of its type");
    }
    if (!h.rotates) return;
    // In Gemma 4, they say which values rotate.
    w.rope_freqs = tensors.take("rope_freqs.weight", {h.n_rot / 2}, TensorUse::vector, a.swa_heads);
    w.rope_factors_long = tensors.optional("rope_factors_long.weight", {h.n_rot / 2}, TensorUse::vector);
    w.rope_factors_short = tensors.optional("rope_factors_short.weight", {h.n_rot / 2}, TensorUse::vector);
}

void take_output(TensorLoader& tensors, const Hparams& h, Weights& w) {
    const auto& a = *h.architecture;
    w.output_norm = tensors.norm(std::string(a.output_norm), h.n_embd, a.norm_bias);
    const auto* output = a.needs_output || tensors.has("output.weight") ? "output.weight" : "token_embd.weight";
    w.output.weight = tensors.required(output, {h.n_embd, h.n_vocab}, TensorUse::matrix);
    w.output.bias = tensors.optional("output.bias", {h.n_vocab}, TensorUse::vector);
}

}  // namespace

Result<Weights> load_weights(const GgufFile& file, const Hparams& hparams, const Compute& compute, bool repack) {
    TensorLoader tensors(file, compute, repack);
    Weights weights;
    tensors.place(compute.device(0));
    take_common(tensors, hparams, weights);
    tensors.place(compute.output_device());
    take_output(tensors, hparams, weights);
    for (int32_t layer = 0; layer < hparams.n_layer; layer++) {
        tensors.place(compute.device(layer));
        weights.layers.push_back(LayerTaker(tensors, hparams, layer).take());
    }
    for (int32_t block = hparams.n_block; block < hparams.n_block_all; block++)
        tensors.skip(fmt::format("blk.{}.", block));
    tensors.refuse_unused(
        fmt::format("the architecture {} with {} layers", hparams.architecture->name, hparams.n_layer));
    auto loaded = tensors.load();
    if (!loaded) return std::unexpected(loaded.error());
    weights.tensors = std::move(*loaded);
    return weights;
}

}  // namespace cake
