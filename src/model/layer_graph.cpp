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

Projections LayerGraph::project(int32_t i, ggml_tensor* input, ggml_tensor* positions) const {
    const auto& w = layer(i);
    const int64_t n_head = hparams_.n_head;
    const int64_t n_head_kv = hparams_.n_head_kv;
    const auto heads_of = [&](ggml_tensor* x, int64_t dim, int64_t first_row, int64_t n) {
        const size_t row = ggml_element_size(x);
        return ggml_view_3d(context_, x, dim, n, x->ne[1], static_cast<size_t>(dim) * row, x->nb[1],
                            static_cast<size_t>(first_row) * row);
    };
    const int64_t q_rows = hparams_.head_dim_k * n_head;
    const int64_t k_rows = hparams_.head_dim_k * n_head_kv;
    ggml_tensor* q = product(w.attn_q, input);
    ggml_tensor* k = w.attn_k.weight != nullptr ? product(w.attn_k, input) : q;
    ggml_tensor* v = w.attn_v.weight != nullptr ? product(w.attn_v, input) : k;
    ggml_tensor* value = heads_of(v, hparams_.head_dim_v, v == q ? q_rows + k_rows : v == k ? k_rows : 0, n_head_kv);
    if (k != q)
        return {.query = rotate(heads_of(q, hparams_.head_dim_k, 0, n_head), positions),
                .key = rotate(heads_of(k, hparams_.head_dim_k, 0, n_head_kv), positions),
                .value = value};
    ggml_tensor* rotated = rotate(heads_of(q, hparams_.head_dim_k, 0, n_head + n_head_kv), positions);
    rotated = ggml_reshape_2d(context_, rotated, q_rows + k_rows, input->ne[1]);
    return {.query = heads_of(rotated, hparams_.head_dim_k, 0, n_head),
            .key = heads_of(rotated, hparams_.head_dim_k, q_rows, n_head_kv),
            .value = value};
}

ggml_tensor* LayerGraph::attend(ggml_tensor* query, ggml_tensor* k, ggml_tensor* v, ggml_tensor* mask) const {
    ggml_tensor* q = ggml_permute(context_, query, 0, 2, 1, 3);
    ggml_tensor* out = ggml_flash_attn_ext(context_, q, k, v, mask, attention_scale(hparams_), 0.0F, 0.0F);
    return ggml_reshape_2d(context_, out, out->ne[0] * out->ne[1], out->ne[2]);
}

ggml_tensor* LayerGraph::finish(int32_t i, ggml_tensor* hidden, ggml_tensor* attention) const {
    const auto& w = layer(i);
    hidden = ggml_add(context_, product(w.attn_output, attention), hidden);
    ggml_tensor* x = normalise(hidden, w.ffn_norm);
    ggml_tensor* gate = product(w.ffn_gate, x);
    x = w.ffn_up.weight == nullptr ? ggml_swiglu(context_, gate)
                                   : ggml_swiglu_split(context_, gate, product(w.ffn_up, x));
    return ggml_add(context_, product(w.ffn_down, x), hidden);
}

ggml_tensor* LayerGraph::logits(ggml_tensor* hidden) const {
    return ggml_mul_mat(context_, weights_.output, normalise(hidden, weights_.output_norm));
}

ggml_tensor* LayerGraph::normalise(ggml_tensor* x, ggml_tensor* weight) const {
    return ggml_mul(context_, ggml_rms_norm(context_, x, hparams_.rms_norm_eps), weight);
}

ggml_tensor* LayerGraph::product(const Linear& linear, ggml_tensor* x) const {
    ggml_tensor* y = ggml_mul_mat(context_, linear.weight, x);
    return linear.bias != nullptr ? ggml_add(context_, y, linear.bias) : y;
}

ggml_tensor* LayerGraph::rotate(ggml_tensor* x, ggml_tensor* positions) const {
    const auto& h = hparams_;
    return ggml_rope_ext(context_, x, positions, weights_.rope_freqs, h.n_rot, h.architecture->rope_mode, h.n_ctx_train,
                         h.rope_freq_base, h.rope_freq_scale, 0.0F, 1.0F, 32.0F, 1.0F);
}

}  // namespace cake
