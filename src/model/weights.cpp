#include "model/weights.hpp"

#include <array>
#include <format>
#include <string>

namespace cake {

namespace {

class LayerTaker {
  public:
    LayerTaker(TensorLoader& tensors, const Hparams& hparams, int32_t layer)
        : tensors_(tensors), h_(hparams), a_(*hparams.architecture), prefix_(std::format("blk.{}.", layer)) {}

    LayerWeights take() {
        take_attention();
        take_feed_forward();
        if (a_.post_norm) {
            w_.attn_post_norm = norm("post_attention_norm");
            w_.ffn_post_norm = norm("post_ffw_norm");
        }
        return w_;
    }

  private:
    std::string name(std::string_view rest) const { return prefix_ + std::string(rest); }
    Norm norm(std::string_view rest) { return tensors_.norm(name(rest), h_.n_embd, a_.norm == NormKind::layer); }

    void take_attention() {
        const int64_t q = static_cast<int64_t>(h_.head_dim_k) * h_.n_head;
        const int64_t k = static_cast<int64_t>(h_.head_dim_k) * h_.n_head_kv;
        const int64_t v = static_cast<int64_t>(h_.head_dim_v) * h_.n_head_kv;
        if (a_.pre_norm) w_.attn_norm = norm("attn_norm");
        if (tensors_.has(name("attn_qkv.weight"))) {
            w_.attn_q = tensors_.linear(name("attn_qkv"), h_.n_embd, q + k + v, a_.needs_biases);
        } else {
            w_.attn_q = tensors_.linear(name("attn_q"), h_.n_embd, q, a_.needs_biases);
            w_.attn_k = tensors_.linear(name("attn_k"), h_.n_embd, k, a_.needs_biases);
            w_.attn_v = tensors_.linear(name("attn_v"), h_.n_embd, v, a_.needs_biases);
            tensors_.join(std::array{&w_.attn_q, &w_.attn_k, &w_.attn_v});
        }
        if (a_.qk_norm != QkNorm::none) {
            const bool all = a_.qk_norm == QkNorm::all;
            w_.attn_q_norm = tensors_.norm(name("attn_q_norm"), all ? q : h_.head_dim_k).weight;
            w_.attn_k_norm = tensors_.norm(name("attn_k_norm"), all ? k : h_.head_dim_k).weight;
        }
        if (a_.sinks) w_.attn_sinks = tensors_.required(name("attn_sinks.weight"), {h_.n_head}, TensorUse::vector);
        w_.attn_output = tensors_.linear(name("attn_output"), static_cast<int64_t>(h_.head_dim_v) * h_.n_head,
                                         h_.n_embd, a_.needs_biases);
    }

    void take_feed_forward() {
        if (a_.pre_norm) w_.ffn_norm = norm(a_.ffn_norm);
        if (h_.n_expert > 0) {
            w_.ffn_gate_inp = tensors_.linear(name("ffn_gate_inp"), h_.n_embd, h_.n_expert, a_.needs_biases);
            w_.ffn_gate = tensors_.experts(name("ffn_gate_exps"), h_.n_embd, h_.n_ff_exp, h_.n_expert, a_.needs_biases);
            w_.ffn_up = tensors_.experts(name("ffn_up_exps"), h_.n_embd, h_.n_ff_exp, h_.n_expert, a_.needs_biases);
            w_.ffn_down = tensors_.experts(name("ffn_down_exps"), h_.n_ff_exp, h_.n_embd, h_.n_expert, a_.needs_biases);
            return;
        }
        w_.ffn_down = tensors_.linear(name("ffn_down"), h_.n_ff, h_.n_embd, a_.needs_biases);
        if (a_.fused_gate) {
            w_.ffn_gate = tensors_.linear(name("ffn_up"), h_.n_embd, 2 * int64_t{h_.n_ff}, a_.needs_biases);
            return;
        }
        if (a_.gated) w_.ffn_gate = tensors_.linear(name("ffn_gate"), h_.n_embd, h_.n_ff, a_.needs_biases);
        w_.ffn_up = tensors_.linear(name("ffn_up"), h_.n_embd, h_.n_ff, a_.needs_biases);
        if (a_.gated) tensors_.join(std::array{&w_.ffn_gate, &w_.ffn_up});
    }

    TensorLoader& tensors_;
    const Hparams& h_;
    const Architecture& a_;
    std::string prefix_;
    LayerWeights w_;
};

void take_common(TensorLoader& tensors, const Hparams& h, Weights& w) {
    const auto& a = *h.architecture;
    w.token_embd = tensors.required("token_embd.weight", {h.n_embd, h.n_vocab}, TensorUse::table);
    if (a.learned_positions)
        w.position_embd = tensors.required("position_embd.weight", {h.n_embd, h.n_ctx_train}, TensorUse::table);
    w.output_norm = tensors.norm("output_norm", h.n_embd, a.norm == NormKind::layer);
    w.output = tensors.take("output.weight", {h.n_embd, h.n_vocab}, TensorUse::matrix, a.needs_output);
    if (w.output == nullptr) w.output = tensors.required("token_embd.weight", {h.n_embd, h.n_vocab}, TensorUse::matrix);
    if (!h.rotates) return;
    w.rope_freqs = tensors.optional("rope_freqs.weight", {h.n_rot / 2}, TensorUse::vector);
    w.rope_factors_long = tensors.optional("rope_factors_long.weight", {h.n_rot / 2}, TensorUse::vector);
    w.rope_factors_short = tensors.optional("rope_factors_short.weight", {h.n_rot / 2}, TensorUse::vector);
}

}  // namespace

Result<Weights> load_weights(const GgufFile& file, const Hparams& hparams, const Compute& compute, bool repack) {
    TensorLoader tensors(file, compute, repack);
    Weights weights;
    take_common(tensors, hparams, weights);
    for (int32_t layer = 0; layer < hparams.n_layer; layer++)
        weights.layers.push_back(LayerTaker(tensors, hparams, layer).take());
    tensors.refuse_unused(
        std::format("the architecture {} with {} layers", hparams.architecture->name, hparams.n_layer));
    auto loaded = tensors.load();
    if (!loaded) return std::unexpected(loaded.error());
    weights.tensors = std::move(*loaded);
    return weights;
}

}  // namespace cake
