#include "model/layer_graph.hpp"

#include <cmath>

namespace cake {

float LayerGraph::attention_scale(const Hparams& hparams) {
    return 1.0F / std::sqrt(static_cast<float>(hparams.head_dim_k));
}

ggml_tensor* LayerGraph::embed(ggml_tensor* tokens) const {
    return ggml_get_rows(context_, weights_.token_embd, tokens);
}

ggml_tensor* LayerGraph::attention_input(int32_t i, ggml_tensor* hidden) const {
    return normalise(hidden, layer(i).attn_norm);
}

ggml_tensor* LayerGraph::query(int32_t i, ggml_tensor* input, ggml_tensor* positions) const {
    ggml_tensor* q = product(layer(i).attn_q, layer(i).attn_q_bias, input);
    return rotate(ggml_reshape_3d(context_, q, hparams_.head_dim_k, hparams_.n_head, input->ne[1]), positions);
}

ggml_tensor* LayerGraph::key(int32_t i, ggml_tensor* input, ggml_tensor* positions) const {
    ggml_tensor* k = product(layer(i).attn_k, layer(i).attn_k_bias, input);
    return rotate(ggml_reshape_3d(context_, k, hparams_.head_dim_k, hparams_.n_head_kv, input->ne[1]), positions);
}

ggml_tensor* LayerGraph::value(int32_t i, ggml_tensor* input) const {
    ggml_tensor* v = product(layer(i).attn_v, layer(i).attn_v_bias, input);
    return ggml_reshape_3d(context_, v, hparams_.head_dim_v, hparams_.n_head_kv, input->ne[1]);
}

ggml_tensor* LayerGraph::attend(ggml_tensor* query, ggml_tensor* k, ggml_tensor* v, ggml_tensor* mask) const {
    ggml_tensor* q = ggml_permute(context_, query, 0, 2, 1, 3);
    ggml_tensor* out = ggml_flash_attn_ext(context_, q, k, v, mask, attention_scale(hparams_), 0.0F, 0.0F);
    return ggml_reshape_2d(context_, out, out->ne[0] * out->ne[1], out->ne[2]);
}

ggml_tensor* LayerGraph::finish(int32_t i, ggml_tensor* hidden, ggml_tensor* attention) const {
    const auto& w = layer(i);
    hidden = ggml_add(context_, product(w.attn_output, w.attn_output_bias, attention), hidden);
    ggml_tensor* x = normalise(hidden, w.ffn_norm);
    ggml_tensor* up = product(w.ffn_up, w.ffn_up_bias, x);
    ggml_tensor* gate = product(w.ffn_gate, w.ffn_gate_bias, x);
    x = product(w.ffn_down, w.ffn_down_bias, ggml_swiglu_split(context_, gate, up));
    return ggml_add(context_, x, hidden);
}

ggml_tensor* LayerGraph::logits(ggml_tensor* hidden) const {
    return ggml_mul_mat(context_, weights_.output, normalise(hidden, weights_.output_norm));
}

ggml_tensor* LayerGraph::normalise(ggml_tensor* x, ggml_tensor* weight) const {
    return ggml_mul(context_, ggml_rms_norm(context_, x, hparams_.rms_norm_eps), weight);
}

ggml_tensor* LayerGraph::product(ggml_tensor* weight, ggml_tensor* bias, ggml_tensor* x) const {
    ggml_tensor* y = ggml_mul_mat(context_, weight, x);
    return bias != nullptr ? ggml_add(context_, y, bias) : y;
}

ggml_tensor* LayerGraph::rotate(ggml_tensor* x, ggml_tensor* positions) const {
    const auto& h = hparams_;
    return ggml_rope_ext(context_, x, positions, weights_.rope_freqs, h.n_rot, h.architecture->rope_mode, h.n_ctx_train,
                         h.rope_freq_base, h.rope_freq_scale, 0.0F, 1.0F, 32.0F, 1.0F);
}

}  // namespace cake
