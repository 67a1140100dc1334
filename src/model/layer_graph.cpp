#include "model/layer_graph.hpp"

namespace cake {

namespace {

/// Views `n` heads of each token of `x`, [rows, n_tokens], from row `first_row` on: [dim, n, n_tokens]. `step`: rows
/// from one head to the next; 0: dim.
ggml_tensor* view_heads(ggml_context* context, ggml_tensor* x, int64_t dim, int64_t first_row, int64_t n,
                        int64_t step = 0) {
    const size_t size = ggml_element_size(x);
    return ggml_view_3d(context, x, dim, n, x->ne[1], static_cast<size_t>(step > 0 ? step : dim) * size, x->nb[1],
                        static_cast<size_t>(first_row) * size);
}

}  // namespace

size_t LayerGraph::max_nodes(const Hparams& hparams) {
    constexpr size_t kNodes = 128;
    constexpr size_t kNodesPerHead = 12;
    return kNodes + kNodesPerHead * static_cast<size_t>(hparams.max_head_kv()) +
           2 * static_cast<size_t>(hparams.n_expert_used);
}

AttentionTraits attention_traits(const Hparams& hparams, const Weights& weights, int32_t layer) {
    return {.scale = hparams.architecture->scales_queries ? 1 : hparams.attention_scale,
            .softcap = hparams.attn_softcap,
            .window = hparams.is_swa(layer) ? hparams.n_swa : 0,
            .sinks = weights.layers[static_cast<size_t>(layer)].attn_sinks};
}

ggml_tensor* LayerGraph::embed(ggml_tensor* tokens, ggml_tensor* positions) const {
    ggml_tensor* x = embed_tokens(tokens);
    if (weights_.position_embd == nullptr) return x;
    return ggml_add(context_, x, ggml_get_rows(context_, weights_.position_embd, positions));
}

ggml_tensor* LayerGraph::embed_tokens(ggml_tensor* tokens) const {
    return scale(ggml_get_rows(context_, weights_.token_embd, tokens), hparams_.embedding_scale);
}

ggml_tensor* LayerGraph::attention_input(int32_t i, ggml_tensor* hidden) const {
    return normalise(hidden, layer(i).attn_norm);
}

Projections LayerGraph::project(int32_t i, ggml_tensor* input, ggml_tensor* positions) const {
    const auto& h = hparams_;
    if (h.has_latent()) return project_latent(i, input, positions);
    const auto& w = layer(i);
    const KvHeads heads = h.heads_of(i);
    const bool gated = h.architecture->attention_gate == AttentionGate::with_queries;
    const int64_t q_step = int64_t{heads.head_dim_k} * (gated ? 2 : 1);
    const int64_t q_rows = q_step * h.n_head;
    const int64_t k_rows = static_cast<int64_t>(heads.head_dim_k) * heads.n_head_kv;
    ggml_tensor* q = product(w.attn_q, input);
    Projections result{.query = view_heads(context_, q, heads.head_dim_k, 0, h.n_head, q_step),
                       .key = nullptr,
                       .value = nullptr,
                       .input = input,
                       .unrotated_query = nullptr};
    result.unrotated_query = result.query;
    ggml_tensor* k = w.attn_k.weight != nullptr ? product(w.attn_k, input) : q;
    if (h.has_kv(i)) {
        ggml_tensor* v = w.attn_v.weight != nullptr ? product(w.attn_v, input) : k;
        const int64_t k_begin = k == q ? q_rows : 0;
        const int64_t v_begin = v == k ? k_begin + (w.v_is_k ? 0 : k_rows) : 0;
        result.key = view_heads(context_, k, heads.head_dim_k, k_begin, heads.n_head_kv);
        result.value = view_heads(context_, v, heads.head_dim_v, v_begin, heads.n_head_kv);
        if (h.architecture->value_norm) result.value = ggml_rms_norm(context_, result.value, h.norm_eps);
    }
    const int64_t attended = int64_t{heads.head_dim_v} * h.n_head;
    if (w.attn_gate.weight != nullptr) result.gate = product(w.attn_gate, input);
    if (gated) {
        ggml_tensor* gates = view_heads(context_, q, heads.head_dim_k, heads.head_dim_k, h.n_head, q_step);
        result.gate = ggml_cont_2d(context_, gates, attended, input->ne[1]);
    }
    const bool rotates = h.rotates_in(i);
    const bool as_it_is = w.attn_q_norm == nullptr && !gated && !h.architecture->scales_queries;
    if (rotates && k == q && as_it_is && result.key != nullptr) {  // rotate both in one operation
        ggml_tensor* both = view_heads(context_, q, heads.head_dim_k, 0, h.n_head + heads.n_head_kv);
        both = rotate(i, both, positions);
        result.query = ggml_view_3d(context_, both, both->ne[0], h.n_head, both->ne[2], both->nb[1], both->nb[2], 0);
        result.key = ggml_view_3d(context_, both, both->ne[0], heads.n_head_kv, both->ne[2], both->nb[1], both->nb[2],
                                  static_cast<size_t>(h.n_head) * both->nb[1]);
        return result;
    }
    const bool norm_is_last = h.architecture->qk_norm == QkNorm::heads_after_rope;
    const auto normalise_both = [&] {
        result.query = normalise_heads(result.query, w.attn_q_norm);
        if (result.key != nullptr) result.key = normalise_heads(result.key, w.attn_k_norm);
    };
    if (w.attn_q_norm != nullptr) {
        result.unrotated_query = normalise_heads(result.query, w.attn_q_norm);
        if (!norm_is_last) normalise_both();
    }
    if (rotates) {
        result.query = rotate(i, result.query, positions);
        if (result.key != nullptr) result.key = rotate(i, result.key, positions);
    }
    if (norm_is_last && w.attn_q_norm != nullptr) normalise_both();
    if (h.architecture->scales_queries) result.query = scale(result.query, h.attention_scale);
    if (h.temperature_scale > 0) result.query = ggml_mul(context_, result.query, temperature(positions));
    return result;
}

/// Hparams::temperature() of each position: [1, 1, n].
ggml_tensor* LayerGraph::temperature(ggml_tensor* positions) const {
    // Half a token more, so that the product with the rounded reciprocal cannot fall short of a whole number.
    const float reciprocal = 1.0F / static_cast<float>(hparams_.temperature_length);
    ggml_tensor* x = ggml_cast(context_, positions, GGML_TYPE_F32);
    x = ggml_floor(context_, ggml_scale_bias(context_, x, reciprocal, 0.5F * reciprocal));
    x = ggml_log(context_, ggml_scale_bias(context_, x, 1, 1));
    x = ggml_scale_bias(context_, x, hparams_.temperature_scale, 1);
    return ggml_reshape_3d(context_, x, 1, 1, positions->ne[0]);
}

/// Normalises each head on its own or, with QkNorm::all, all heads as one vector.
ggml_tensor* LayerGraph::normalise_heads(ggml_tensor* x, ggml_tensor* weight) const {
    const bool all = hparams_.architecture->qk_norm == QkNorm::all;
    ggml_tensor* vectors = all ? ggml_view_2d(context_, x, x->ne[0] * x->ne[1], x->ne[2], x->nb[2], 0) : x;
    vectors = normalise(vectors, {.weight = weight});
    return all ? ggml_reshape_3d(context_, vectors, x->ne[0], x->ne[1], x->ne[2]) : vectors;
}

ggml_tensor* LayerGraph::finish(int32_t i, ggml_tensor* hidden, const AttentionResult& result,
                                ggml_tensor* tokens) const {
    const auto& w = layer(i);
    ggml_tensor* x = hparams_.has_latent() ? latent_output(i, result.attention) : result.attention;
    if (result.gate != nullptr) x = ggml_mul(context_, x, ggml_sigmoid(context_, result.gate));
    x = product(w.attn_output, x);
    if (result.beside != nullptr) x = ggml_add(context_, x, result.beside);
    hidden = add_to_residual(i, hidden, x);
    if (hparams_.n_embd_per_layer > 0) hidden = add_layer_embedding(i, hidden, tokens);
    return w.layer_output_scale != nullptr ? ggml_mul(context_, hidden, w.layer_output_scale) : hidden;
}

ggml_tensor* LayerGraph::finish_recurrent(int32_t i, ggml_tensor* hidden, ggml_tensor* mixed) const {
    return add_to_residual(i, hidden, mixed);
}

/// Adds what attention or recurrence made of the input, and then the feed-forward.
ggml_tensor* LayerGraph::add_to_residual(int32_t i, ggml_tensor* hidden, ggml_tensor* added) const {
    const auto& w = layer(i);
    const auto& a = *hparams_.architecture;
    const float factor = hparams_.residual_scale;
    ggml_tensor* input = hidden;
    hidden = ggml_add(context_, scale(normalise(added, w.attn_post_norm), factor), hidden);
    if (!hparams_.has_feed_forward(i)) return hidden;
    ggml_tensor* x = nullptr;
    if (hparams_.has_experts(i) && a.experts.beside_dense) {
        x = dense_beside_experts(i, hidden);
    } else {
        x = a.parallel ? attention_input(i, input) : normalise(hidden, w.ffn_norm);
        x = hparams_.has_experts(i) ? mix_experts(i, x, a.experts.reads_layer_input ? input : x) : feed_forward(i, x);
    }
    return ggml_add(context_, scale(normalise(x, w.ffn_post_norm), factor), hidden);
}

ggml_tensor* LayerGraph::logits(ggml_tensor* hidden) const {
    ggml_tensor* x = product(weights_.output, normalise(hidden, weights_.output_norm));
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

/// The coordinates of tokens of a text for ggml_rope_multi(): i32 [4 * n].
ggml_tensor* LayerGraph::coordinates(ggml_tensor* positions) const {
    ggml_tensor* three = ggml_concat(context_, ggml_concat(context_, positions, positions, 0), positions, 0);
    ggml_tensor* zeros = ggml_scale(context_, ggml_cast(context_, positions, GGML_TYPE_F32), 0);
    return ggml_concat(context_, three, ggml_cast(context_, zeros, GGML_TYPE_I32), 0);
}

ggml_tensor* LayerGraph::rotate(int32_t i, ggml_tensor* x, ggml_tensor* positions) const {
    const Rope& rope = hparams_.rope_of(i);
    const int32_t n_rot = hparams_.heads_of(i).n_rot;
    ggml_tensor* factors = weights_.rope_freqs;
    if (hparams_.is_swa(i) && hparams_.architecture->swa_heads)
        factors = nullptr;
    else if (factors == nullptr)
        factors = hparams_.is_long() ? weights_.rope_factors_long : weights_.rope_factors_short;
    if (hparams_.has_rope_sections()) {
        auto sections = hparams_.rope_sections;
        return ggml_rope_multi(context_, x, coordinates(positions), factors, n_rot, sections.data(), hparams_.rope_mode,
                               rope.n_ctx_orig, rope.freq_base, rope.freq_scale, rope.ext_factor, rope.attn_factor,
                               rope.beta_fast, rope.beta_slow);
    }
    return ggml_rope_ext(context_, x, positions, factors, n_rot, hparams_.rope_mode, rope.n_ctx_orig, rope.freq_base,
                         rope.freq_scale, rope.ext_factor, rope.attn_factor, rope.beta_fast, rope.beta_slow);
}

}  // namespace cake
