// Multi-head latent attention in LayerGraph (DeepSeek-V2, arXiv:2405.04434): the projections of keys and values are
// absorbed by the queries and the output, so that all heads attend to the same vectors.

#include "model/layer_graph.hpp"

namespace cake {

namespace {

/// `n` rows of each head of `x`, [rows, n_head, n_tokens], from `begin` on.
ggml_tensor* view_rows(ggml_context* context, ggml_tensor* x, int64_t begin, int64_t n) {
    return ggml_view_3d(context, x, n, x->ne[1], x->ne[2], x->nb[1], x->nb[2], static_cast<size_t>(begin) * x->nb[0]);
}

}  // namespace

Projections LayerGraph::project_latent(int32_t i, ggml_tensor* input, ggml_tensor* positions) const {
    const auto& h = hparams_;
    const auto& w = layer(i);
    const int64_t n = input->ne[1];
    const int64_t n_nope = h.latent.head_dim_k - h.n_rot;
    ggml_tensor* q = w.attn_q_a.weight != nullptr ? normalise(product(w.attn_q_a, input), w.attn_q_a_norm) : input;
    q = ggml_reshape_3d(context_, product(w.attn_q, q), h.latent.head_dim_k, h.n_head, n);
    ggml_tensor* absorbed = latent_queries(w, view_rows(context_, q, 0, n_nope));
    ggml_tensor* q_rope = view_rows(context_, q, n_nope, h.n_rot);

    ggml_tensor* kv = ggml_reshape_3d(context_, product(w.attn_kv_a_mqa, input), h.head_dim_k, 1, n);
    ggml_tensor* latent = normalise(view_rows(context_, kv, 0, h.latent.n_lora_kv), w.attn_kv_a_norm);
    ggml_tensor* k_rope = rotate(i, view_rows(context_, kv, h.latent.n_lora_kv, h.n_rot), positions);

    Projections result{.query = ggml_concat(context_, absorbed, rotate(i, q_rope, positions), 0),
                       .key = ggml_concat(context_, latent, k_rope, 0),
                       .value = nullptr,
                       .input = input,
                       .unrotated_query = ggml_concat(context_, absorbed, q_rope, 0)};
    if (h.temperature_scale > 0) result.query = ggml_mul(context_, result.query, temperature(positions));
    return result;
}

/// The part of the queries that does not rotate, [head_dim_k - n_rot, n_head, n], projected to latent values:
/// [n_lora_kv, n_head, n].
ggml_tensor* LayerGraph::latent_queries(const LayerWeights& w, ggml_tensor* nope) const {
    ggml_tensor* by_head = ggml_mul_mat(context_, w.attn_k_b, ggml_permute(context_, nope, 0, 2, 1, 3));
    return ggml_permute(context_, by_head, 0, 2, 1, 3);
}

/// Projects the attended latent values of each head, [n_lora_kv * n_head, n], to values: [head_dim_v * n_head, n].
ggml_tensor* LayerGraph::latent_output(int32_t i, ggml_tensor* attention) const {
    const auto& h = hparams_;
    const int64_t n = attention->ne[1];
    ggml_tensor* by_head = ggml_reshape_3d(context_, attention, h.latent.n_lora_kv, h.n_head, n);
    by_head = ggml_mul_mat(context_, layer(i).attn_v_b, ggml_permute(context_, by_head, 0, 2, 1, 3));
    return ggml_cont_2d(context_, ggml_permute(context_, by_head, 0, 2, 1, 3), int64_t{h.latent.head_dim_v} * h.n_head,
                        n);
}

}  // namespace cake
