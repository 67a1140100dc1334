#include "model/layer_graph.hpp"

#include <cmath>

namespace cake {

namespace {

/// Views `n` heads of each token of `x`, [rows, n_tokens], from row `first_row` on: [dim, n, n_tokens].
ggml_tensor* view_heads(ggml_context* context, ggml_tensor* x, int64_t dim, int64_t first_row, int64_t n) {
    const size_t size = ggml_element_size(x);
    return ggml_view_3d(context, x, dim, n, x->ne[1], static_cast<size_t>(dim) * size, x->nb[1],
                        static_cast<size_t>(first_row) * size);
}

}  // namespace

size_t LayerGraph::max_nodes(const Hparams& hparams) {
    constexpr size_t kNodes = 96;
    constexpr size_t kNodesPerHead = 12;
    return kNodes + kNodesPerHead * static_cast<size_t>(hparams.n_head_kv) +
           2 * static_cast<size_t>(hparams.n_expert_used);
}

AttentionTraits attention_traits(const Hparams& hparams, const Weights& weights, int32_t layer) {
    return {.scale = hparams.attention_scale,
            .softcap = hparams.attn_softcap,
            .window = hparams.is_swa(layer) ? hparams.n_swa : 0,
            .sinks = weights.layers[static_cast<size_t>(layer)].attn_sinks};
}

ggml_tensor* LayerGraph::embed(ggml_tensor* tokens, ggml_tensor* positions) const {
    ggml_tensor* x = scale(ggml_get_rows(context_, weights_.token_embd, tokens), hparams_.embedding_scale);
    if (weights_.position_embd == nullptr) return x;
    return ggml_add(context_, x, ggml_get_rows(context_, weights_.position_embd, positions));
}

ggml_tensor* LayerGraph::attention_input(int32_t i, ggml_tensor* hidden) const {
    return normalise(hidden, layer(i).attn_norm);
}

Projections LayerGraph::project(int32_t i, ggml_tensor* input, ggml_tensor* positions) const {
    const auto& h = hparams_;
    const auto& w = layer(i);
    const int64_t q_rows = static_cast<int64_t>(h.head_dim_k) * h.n_head;
    const int64_t k_rows = static_cast<int64_t>(h.head_dim_k) * h.n_head_kv;
    ggml_tensor* q = product(w.attn_q, input);
    ggml_tensor* k = w.attn_k.weight != nullptr ? product(w.attn_k, input) : q;
    ggml_tensor* v = w.attn_v.weight != nullptr ? product(w.attn_v, input) : k;
    const int64_t k_begin = k == q ? q_rows : 0;
    const int64_t v_begin = v == k ? k_begin + k_rows : 0;
    Projections result{.query = view_heads(context_, q, h.head_dim_k, 0, h.n_head),
                       .key = view_heads(context_, k, h.head_dim_k, k_begin, h.n_head_kv),
                       .value = view_heads(context_, v, h.head_dim_v, v_begin, h.n_head_kv),
                       .input = input,
                       .unrotated_query = nullptr};
    result.unrotated_query = result.query;
    const bool rotates = h.rotates_in(i);
    if (rotates && k == q && w.attn_q_norm == nullptr) {  // rotate both in one operation
        ggml_tensor* both = view_heads(context_, q, h.head_dim_k, 0, h.n_head + h.n_head_kv);
        both = rotate(i, both, positions);
        result.query = ggml_view_3d(context_, both, both->ne[0], h.n_head, both->ne[2], both->nb[1], both->nb[2], 0);
        result.key = ggml_view_3d(context_, both, both->ne[0], h.n_head_kv, both->ne[2], both->nb[1], both->nb[2],
                                  static_cast<size_t>(h.n_head) * both->nb[1]);
        return result;
    }
    if (w.attn_q_norm != nullptr) {
        result.query = normalise_heads(result.query, w.attn_q_norm);
        result.key = normalise_heads(result.key, w.attn_k_norm);
        result.unrotated_query = result.query;
    }
    if (rotates) {
        result.query = rotate(i, result.query, positions);
        result.key = rotate(i, result.key, positions);
    }
    return result;
}

/// Normalises each head on its own or, with QkNorm::all, all heads as one vector.
ggml_tensor* LayerGraph::normalise_heads(ggml_tensor* x, ggml_tensor* weight) const {
    const bool all = hparams_.architecture->qk_norm == QkNorm::all;
    ggml_tensor* vectors = all ? ggml_view_2d(context_, x, x->ne[0] * x->ne[1], x->ne[2], x->nb[2], 0) : x;
    vectors = normalise(vectors, {.weight = weight});
    return all ? ggml_reshape_3d(context_, vectors, x->ne[0], x->ne[1], x->ne[2]) : vectors;
}

ggml_tensor* LayerGraph::finish(int32_t i, ggml_tensor* hidden, ggml_tensor* attention) const {
    const auto& w = layer(i);
    const float factor = hparams_.residual_scale;
    ggml_tensor* added = normalise(product(w.attn_output, attention), w.attn_post_norm);
    hidden = ggml_add(context_, scale(added, factor), hidden);
    ggml_tensor* x = normalise(hidden, w.ffn_norm);
    x = hparams_.n_expert > 0 ? mix_experts(w, x) : feed_forward(w, x);
    return ggml_add(context_, scale(normalise(x, w.ffn_post_norm), factor), hidden);
}

ggml_tensor* LayerGraph::feed_forward(const LayerWeights& w, ggml_tensor* x) const {
    ggml_tensor* gate = w.ffn_gate.weight != nullptr ? product(w.ffn_gate, x) : nullptr;
    ggml_tensor* up = w.ffn_up.weight != nullptr ? product(w.ffn_up, x) : nullptr;
    return product(w.ffn_down, activate(gate, up));
}

/// Either argument may be null. Without `gate`, the activation is applied to `up` alone; without `up`, the second half
/// of `gate` is used as `up`.
ggml_tensor* LayerGraph::activate(ggml_tensor* gate, ggml_tensor* up) const {
    constexpr float kAlpha = 1.702F;  // kAlpha and kLimit are those of gpt-oss
    constexpr float kLimit = 7;
    switch (hparams_.architecture->activation) {
        case Activation::silu:
            if (gate == nullptr) return ggml_silu(context_, up);
            return up == nullptr ? ggml_swiglu(context_, gate) : ggml_swiglu_split(context_, gate, up);
        case Activation::gelu:
            if (gate == nullptr) return ggml_gelu(context_, up);
            return up == nullptr ? ggml_geglu(context_, gate) : ggml_geglu_split(context_, gate, up);
        case Activation::swiglu_oai:
            break;
    }
    return ggml_swiglu_oai(context_, gate, up, kAlpha, kLimit);
}

ggml_tensor* LayerGraph::expert_product(const Linear& linear, ggml_tensor* x, ggml_tensor* chosen) const {
    ggml_tensor* y = ggml_mul_mat_id(context_, linear.weight, x, chosen);
    return linear.bias != nullptr ? ggml_add_id(context_, y, linear.bias, chosen) : y;
}

/// Weighted sum of the experts chosen for each token.
ggml_tensor* LayerGraph::mix_experts(const LayerWeights& w, ggml_tensor* x) const {
    constexpr float kMinSum = 6.103515625e-5F;  // smallest normal number in half precision
    const auto& h = hparams_;
    const int64_t n_tokens = x->ne[1];
    const bool of_all = h.architecture->experts == Experts::softmax;
    ggml_tensor* scores = product(w.ffn_gate_inp, x);  // [n_expert, n]
    if (of_all) scores = ggml_soft_max(context_, scores);
    ggml_tensor* chosen = ggml_argsort_top_k(context_, scores, h.n_expert_used);  // [n_used, n]
    ggml_tensor* weights = ggml_get_rows(context_, ggml_reshape_3d(context_, scores, 1, h.n_expert, n_tokens), chosen);
    weights = ggml_reshape_2d(context_, weights, h.n_expert_used, n_tokens);
    if (of_all) {
        ggml_tensor* sum = ggml_clamp(context_, ggml_sum_rows(context_, weights), kMinSum, INFINITY);
        weights = ggml_div(context_, weights, sum);
    } else {
        weights = ggml_soft_max(context_, weights);
    }
    weights = ggml_reshape_3d(context_, weights, 1, h.n_expert_used, n_tokens);

    x = ggml_reshape_3d(context_, x, x->ne[0], 1, n_tokens);
    ggml_tensor* up = expert_product(w.ffn_up, x, chosen);
    ggml_tensor* gate = expert_product(w.ffn_gate, x, chosen);
    ggml_tensor* out = expert_product(w.ffn_down, activate(gate, up), chosen);  // [n_embd, n_used, n]
    out = ggml_mul(context_, out, weights);
    const auto of_expert = [&](int32_t i) {
        return ggml_view_2d(context_, out, out->ne[0], n_tokens, out->nb[2], static_cast<size_t>(i) * out->nb[1]);
    };
    ggml_tensor* sum = of_expert(0);
    for (int32_t i = 1; i < h.n_expert_used; i++) sum = ggml_add(context_, sum, of_expert(i));
    return h.n_expert_used > 1 ? sum : ggml_cont(context_, sum);
}

ggml_tensor* LayerGraph::logits(ggml_tensor* hidden) const {
    ggml_tensor* x = ggml_mul_mat(context_, weights_.output, normalise(hidden, weights_.output_norm));
    x = scale(x, hparams_.logit_scale);
    const float cap = hparams_.final_softcap;
    return cap > 0 ? scale(ggml_tanh(context_, scale(x, 1 / cap)), cap) : x;
}

/// Returns `x` unchanged if there is no norm.
ggml_tensor* LayerGraph::normalise(ggml_tensor* x, const Norm& norm) const {
    if (norm.weight == nullptr) return x;
    x = hparams_.architecture->norm == NormKind::rms ? ggml_rms_norm(context_, x, hparams_.norm_eps)
                                                     : ggml_norm(context_, x, hparams_.norm_eps);
    x = ggml_mul(context_, x, norm.weight);
    return norm.bias != nullptr ? ggml_add(context_, x, norm.bias) : x;
}

ggml_tensor* LayerGraph::product(const Linear& linear, ggml_tensor* x) const {
    ggml_tensor* y = ggml_mul_mat(context_, linear.weight, x);
    return linear.bias != nullptr ? ggml_add(context_, y, linear.bias) : y;
}

ggml_tensor* LayerGraph::scale(ggml_tensor* x, float factor) const {
    return factor == 1 ? x : ggml_scale(context_, x, factor);
}

ggml_tensor* LayerGraph::rotate(int32_t i, ggml_tensor* x, ggml_tensor* positions) const {
    const Rope& rope = hparams_.rope_of(i);
    ggml_tensor* factors = weights_.rope_freqs;
    if (factors == nullptr) factors = hparams_.is_long() ? weights_.rope_factors_long : weights_.rope_factors_short;
    return ggml_rope_ext(context_, x, positions, factors, hparams_.n_rot, hparams_.architecture->rope_mode,
                         rope.n_ctx_orig, rope.freq_base, rope.freq_scale, rope.ext_factor, rope.attn_factor,
                         rope.beta_fast, rope.beta_slow);
}

}  // namespace cake
