// The feed-forward of LayerGraph, dense and with experts.

#include <cmath>

#include "model/layer_graph.hpp"

namespace cake {

ggml_tensor* LayerGraph::feed_forward(int32_t i, ggml_tensor* x) const {
    const auto& w = layer(i);
    return gated_product(i, w.ffn_gate, w.ffn_up, w.ffn_down, x);
}

ggml_tensor* LayerGraph::gated_product(int32_t i, const Linear& gate, const Linear& up, const Linear& down,
                                       ggml_tensor* x) const {
    ggml_tensor* gated = gate.weight != nullptr ? product(gate, x) : nullptr;
    ggml_tensor* raised = up.weight != nullptr ? product(up, x) : nullptr;
    return product(down, activate(i, gated, raised));
}

/// Either tensor may be null. Without `gate`, the activation is applied to `up` alone; without `up`, the second half
/// of `gate` is used as `up`.
ggml_tensor* LayerGraph::activate(int32_t i, ggml_tensor* gate, ggml_tensor* up) const {
    constexpr float kAlpha = 1.702F;  // kAlpha and kLimit are those of gpt-oss
    constexpr float kLimit = 7;
    switch (hparams_.architecture->activation) {
        case Activation::silu:
            if (gate == nullptr) return ggml_silu(context_, up);
            return up == nullptr ? ggml_swiglu(context_, gate) : ggml_swiglu_split(context_, gate, up);
        case Activation::gelu:
            if (gate == nullptr) return ggml_gelu(context_, up);
            return up == nullptr ? ggml_geglu(context_, gate) : ggml_geglu_split(context_, gate, up);
        case Activation::relu:
            if (gate == nullptr) return ggml_relu(context_, up);
            return up == nullptr ? ggml_reglu(context_, gate) : ggml_reglu_split(context_, gate, up);
        case Activation::relu_sqr:
            return ggml_sqr(context_, ggml_relu(context_, up));
        case Activation::xielu: {
            const auto& x = hparams_.xielu[static_cast<size_t>(i)];
            return ggml_xielu(context_, up, x.alpha_n, x.alpha_p, x.beta, x.eps);
        }
        case Activation::swiglu_oai:
            break;
    }
    return ggml_swiglu_oai(context_, gate, up, kAlpha, kLimit);
}

/// Scores of all experts from what chooses them, [n_embd, n]: [n_expert, n].
ggml_tensor* LayerGraph::expert_scores(const LayerWeights& w, ggml_tensor* chooser) const {
    ggml_tensor* logits = product(w.ffn_gate_inp, chooser);
    switch (hparams_.expert_gating) {
        case Gating::softmax:
            return ggml_soft_max(context_, logits);
        case Gating::sigmoid:
            return ggml_sigmoid(context_, logits);
        case Gating::softmax_of_chosen:
            break;
    }
    return logits;
}

/// Indices of the experts that each token uses: [n_expert_used, n].
ggml_tensor* LayerGraph::choose_experts(const LayerWeights& w, ggml_tensor* scores) const {
    if (w.exp_probs_b != nullptr) scores = ggml_add(context_, scores, w.exp_probs_b);
    if (hparams_.n_expert_groups > 1) scores = without_weak_groups(scores);
    return ggml_argsort_top_k(context_, scores, hparams_.n_expert_used);
}

/// The scores, with those of the experts outside the best groups replaced by -inf. A group is as good as the sum of its
/// two best experts.
ggml_tensor* LayerGraph::without_weak_groups(ggml_tensor* scores) const {
    const int64_t n_groups = hparams_.n_expert_groups;
    const int64_t size = hparams_.n_expert / n_groups;
    const int64_t n = scores->ne[1];
    ggml_tensor* groups = ggml_reshape_3d(context_, scores, size, n_groups, n);
    ggml_tensor* best = ggml_argsort_top_k(context_, groups, 2);  // [2, n_groups, n]
    best = ggml_get_rows(context_, ggml_reshape_4d(context_, groups, 1, size, n_groups, n), best);
    best = ggml_sum_rows(context_, ggml_reshape_3d(context_, best, 2, n_groups, n));
    best = ggml_argsort_top_k(context_, ggml_reshape_2d(context_, best, n_groups, n), hparams_.n_group_used);
    ggml_tensor* kept = ggml_get_rows(context_, groups, best);  // [size, n_group_used, n]
    ggml_tensor* none = ggml_scale_bias(context_, groups, 0, -INFINITY);
    return ggml_reshape_2d(context_, ggml_set_rows(context_, none, kept, best), hparams_.n_expert, n);
}

/// Weights of the chosen experts: [1, n_expert_used, n].
ggml_tensor* LayerGraph::expert_weights(ggml_tensor* scores, ggml_tensor* chosen) const {
    constexpr float kMinSum = 6.103515625e-5F;  // smallest normal number in half precision
    const auto& h = hparams_;
    const int64_t n = scores->ne[1];
    ggml_tensor* weights = ggml_get_rows(context_, ggml_reshape_3d(context_, scores, 1, h.n_expert, n), chosen);
    weights = ggml_reshape_2d(context_, weights, h.n_expert_used, n);
    if (h.expert_gating == Gating::softmax_of_chosen) weights = ggml_soft_max(context_, weights);
    if (h.expert_weights_norm) {
        ggml_tensor* sum = ggml_clamp(context_, ggml_sum_rows(context_, weights), kMinSum, INFINITY);
        weights = ggml_div(context_, weights, sum);
    }
    return ggml_reshape_3d(context_, scale(weights, h.expert_weights_scale), 1, h.n_expert_used, n);
}

ggml_tensor* LayerGraph::expert_product(const Linear& linear, ggml_tensor* x, ggml_tensor* chosen) const {
    ggml_tensor* y = ggml_mul_mat_id(context_, linear.weight, x, chosen);
    return linear.bias != nullptr ? ggml_add_id(context_, y, linear.bias, chosen) : y;
}

/// Weighted sum of the experts that `chooser`, [n_embd, n], chooses for each token, and of the shared ones.
ggml_tensor* LayerGraph::mix_experts(int32_t i, ggml_tensor* x, ggml_tensor* chooser) const {
    const auto& h = hparams_;
    const auto& w = layer(i);
    const int64_t n_tokens = x->ne[1];
    ggml_tensor* scores = expert_scores(w, chooser);
    ggml_tensor* chosen = choose_experts(w, scores);
    ggml_tensor* weights = expert_weights(scores, chosen);

    ggml_tensor* input = ggml_reshape_3d(context_, x, x->ne[0], 1, n_tokens);
    ggml_tensor* up = w.ffn_up.weight != nullptr ? expert_product(w.ffn_up, input, chosen) : nullptr;
    ggml_tensor* gate = w.ffn_gate.weight != nullptr ? expert_product(w.ffn_gate, input, chosen) : nullptr;
    ggml_tensor* out = expert_product(w.ffn_down, activate(i, gate, up), chosen);  // [n_embd, n_used, n]
    if (w.ffn_down_scale != nullptr) out = scale_experts(w, out, chosen);
    out = ggml_mul(context_, out, weights);
    const auto of_expert = [&](int32_t expert) {
        return ggml_view_2d(context_, out, out->ne[0], n_tokens, out->nb[2], static_cast<size_t>(expert) * out->nb[1]);
    };
    ggml_tensor* sum = of_expert(0);
    for (int32_t expert = 1; expert < h.n_expert_used; expert++) sum = ggml_add(context_, sum, of_expert(expert));
    if (h.n_expert_used == 1) sum = ggml_cont(context_, sum);
    return h.has_shared_experts ? ggml_add(context_, sum, shared_experts(i, x)) : sum;
}

/// Multiplies what the experts give, [n_embd, n_used, n], by their factors.
ggml_tensor* LayerGraph::scale_experts(const LayerWeights& w, ggml_tensor* out, ggml_tensor* chosen) const {
    const int64_t n_expert = hparams_.n_expert;
    ggml_tensor* factors = ggml_reshape_3d(context_, w.ffn_down_scale, 1, n_expert, 1);
    factors = ggml_repeat_4d(context_, factors, 1, n_expert, out->ne[2], 1);
    return ggml_mul(context_, out, ggml_get_rows(context_, factors, chosen));
}

/// A dense feed-forward and experts, which are chosen by the hidden state without its norm's weights.
ggml_tensor* LayerGraph::dense_beside_experts(int32_t i, ggml_tensor* hidden) const {
    const auto& w = layer(i);
    ggml_tensor* dense = normalise(shared_experts(i, normalise(hidden, w.ffn_norm)), w.ffn_post_norm_1);
    ggml_tensor* chooser = ggml_rms_norm(context_, hidden, hparams_.norm_eps);
    chooser = ggml_scale(context_, chooser, 1 / std::sqrt(static_cast<float>(hparams_.n_embd)));
    chooser = ggml_mul(context_, chooser, w.ffn_gate_inp_scale);
    ggml_tensor* mixed = mix_experts(i, normalise(hidden, w.ffn_pre_norm_2), chooser);
    return ggml_add(context_, dense, normalise(mixed, w.ffn_post_norm_2));
}

ggml_tensor* LayerGraph::shared_experts(int32_t i, ggml_tensor* x) const {
    const auto& w = layer(i);
    ggml_tensor* out = gated_product(i, w.ffn_gate_shexp, w.ffn_up_shexp, w.ffn_down_shexp, x);
    if (w.ffn_gate_inp_shexp.weight == nullptr) return out;
    return ggml_mul(context_, out, ggml_sigmoid(context_, product(w.ffn_gate_inp_shexp, x)));
}

}  // namespace cake
