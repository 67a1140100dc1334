// Recurrences of LayerGraph: a state of fixed size takes the place of K and V, or stands beside them.

#include <cmath>
#include <utility>

#include "model/layer_graph.hpp"

namespace cake {

namespace {

/// The tokens of sequence `i` of several, all of the same length, in `x`, [rows, n_tokens].
ggml_tensor* tokens_of(ggml_context* context, ggml_tensor* x, size_t i, size_t n_sequences) {
    const int64_t n = x->ne[1] / static_cast<int64_t>(n_sequences);
    return ggml_view_2d(context, x, x->ne[0], n, x->nb[1], i * static_cast<size_t>(n) * x->nb[1]);
}

/// Computes `step(state, tokens)` for each sequence and joins the results along `dim`. `tokens(x)`: the sequence's part
/// of `x`, [rows, n_tokens].
ggml_tensor* by_sequence(ggml_context* context, std::span<ggml_tensor* const> states, int dim, const auto& step) {
    ggml_tensor* all = nullptr;
    for (size_t i = 0; i < states.size(); i++) {
        ggml_tensor* part = step(states[i], [&](ggml_tensor* x) { return tokens_of(context, x, i, states.size()); });
        all = all == nullptr ? part : ggml_concat(context, all, part, dim);
    }
    return all;
}

}  // namespace

ggml_tensor* LayerGraph::recur(int32_t i, ggml_tensor* input, std::span<ggml_tensor* const> states,
                               std::vector<ggml_tensor*>& writes) const {
    const auto& w = layer(i);
    switch (hparams_.architecture->recurrence) {
        case Recurrence::short_convolution:
            return short_convolution(w, input, states, writes);
        case Recurrence::delta_net:
            return delta_net(w, input, states, writes);
        case Recurrence::mamba2:
            return mamba2(w, input, states, writes);
        case Recurrence::none:
            break;
    }
    std::unreachable();
}

/// Views heads of `mixed`, [n_channels, n], from channel `first_row` on: [dim, n_head, n, 1].
ggml_tensor* LayerGraph::recurrent_heads(ggml_tensor* mixed, int64_t dim, int64_t n_head, int64_t first_row) const {
    const int64_t n = mixed->ne[1];
    return ggml_view_4d(context_, mixed, dim, n_head, n, 1, static_cast<size_t>(dim) * sizeof(float), mixed->nb[1],
                        static_cast<size_t>(n) * mixed->nb[1], static_cast<size_t>(first_row) * sizeof(float));
}

/// The matrices in a state: [head_dim_k, head_dim_v, n_head_v, 1].
ggml_tensor* LayerGraph::state_matrices(ggml_tensor* state) const {
    const auto& r = hparams_.recurrent;
    const auto row = static_cast<size_t>(r.head_dim_k) * sizeof(float);
    return ggml_view_4d(context_, state, r.head_dim_k, r.head_dim_v, r.n_head_v, 1, row,
                        row * static_cast<size_t>(r.head_dim_v), row * static_cast<size_t>(r.value_width()),
                        static_cast<size_t>(r.n_conv_state()) * sizeof(float));
}

/// Causal convolution of each channel over its last n_conv tokens: [n_channels, n].
ggml_tensor* LayerGraph::convolve(const LayerWeights& w, ggml_tensor* x, ggml_tensor* state,
                                  std::vector<ggml_tensor*>& writes) const {
    const int64_t n_before = w.conv->ne[0] - 1;
    ggml_tensor* before =
        ggml_view_2d(context_, state, n_before, x->ne[0], static_cast<size_t>(n_before) * sizeof(float), 0);
    ggml_tensor* columns = ggml_concat(context_, before, ggml_transpose(context_, x), 0);  // [n_before + n, n_channels]
    ggml_tensor* last = ggml_view_2d(context_, columns, n_before, x->ne[0], columns->nb[1],
                                     static_cast<size_t>(x->ne[1]) * sizeof(float));
    writes.push_back(ggml_cpy(context_, last, before));
    return ggml_ssm_conv(context_, columns, w.conv);
}

ggml_tensor* LayerGraph::short_convolution(const LayerWeights& w, ggml_tensor* input,
                                           std::span<ggml_tensor* const> states,
                                           std::vector<ggml_tensor*>& writes) const {
    const int64_t n_embd = input->ne[0];
    ggml_tensor* bcx = product(w.conv_in, input);
    const auto third = [&](size_t i) {
        return ggml_view_2d(context_, bcx, n_embd, bcx->ne[1], bcx->nb[1],
                            i * static_cast<size_t>(n_embd) * sizeof(float));
    };
    ggml_tensor* gated = ggml_mul(context_, third(0), third(2));
    ggml_tensor* convolved = by_sequence(context_, states, 1, [&](ggml_tensor* state, const auto& tokens) {
        return convolve(w, tokens(gated), state, writes);
    });
    return product(w.recurrent_output, ggml_mul(context_, third(1), convolved));
}

/// What DeltaNet projects from the input of a layer.
struct LayerGraph::DeltaInput {
    ggml_tensor* channels;  // [n_channels, n]
    ggml_tensor* gate;      // [value_width, n]
    ggml_tensor* beta;      // [n_head_v, n]
    ggml_tensor* alpha;     // [n_head_v, n]
};

/// Rows of each head of keys in `x`, [n_rows_of_head * n_head_k, n], from row `begin` of the head on, joined:
/// [n_rows * n_head_k, n].
ggml_tensor* LayerGraph::by_group(ggml_tensor* x, int64_t begin, int64_t n_rows) const {
    const int64_t n_head = hparams_.recurrent.n_head_k;
    const size_t of_head = static_cast<size_t>(x->ne[0] / n_head) * sizeof(float);
    ggml_tensor* rows = ggml_view_3d(context_, x, n_rows, n_head, x->ne[1], of_head, x->nb[1],
                                     static_cast<size_t>(begin) * sizeof(float));
    return ggml_cont_2d(context_, rows, n_rows * n_head, x->ne[1]);
}

LayerGraph::DeltaInput LayerGraph::delta_input(const LayerWeights& w, ggml_tensor* input) const {
    const auto& r = hparams_.recurrent;
    const int64_t n_group = r.n_head_v / r.n_head_k;
    DeltaInput result{.channels = product(w.conv_in, input), .gate = nullptr, .beta = nullptr, .alpha = nullptr};
    if (w.attn_gate.weight != nullptr) {
        result.gate = product(w.attn_gate, input);
    } else {
        ggml_tensor* all = result.channels;
        const int64_t n_values = n_group * r.head_dim_v;
        const int64_t values_begin = 2 * int64_t{r.head_dim_k};
        result.channels =
            ggml_concat(context_, by_group(all, 0, r.head_dim_k), by_group(all, r.head_dim_k, r.head_dim_k), 0);
        result.channels = ggml_concat(context_, result.channels, by_group(all, values_begin, n_values), 0);
        result.gate = by_group(all, values_begin + n_values, n_values);
    }
    if (w.ssm_ba.weight == nullptr) {
        result.beta = product(w.ssm_beta, input);
        result.alpha = product(w.ssm_alpha, input);
    } else {
        ggml_tensor* both = product(w.ssm_ba, input);
        result.beta = by_group(both, 0, n_group);
        result.alpha = by_group(both, n_group, n_group);
    }
    return result;
}

/// Repeats each head of queries or keys, [head_dim_k, n_head_k, n, 1], for the heads of values that share it.
ggml_tensor* LayerGraph::for_each_value(ggml_tensor* x) const {
    const auto& r = hparams_.recurrent;
    if (!hparams_.architecture->grouped_delta_heads || r.n_head_v == r.n_head_k) return x;
    const int64_t n = x->ne[2];
    ggml_tensor* repeated = ggml_reshape_4d(context_, x, r.head_dim_k, 1, r.n_head_k, n);
    repeated = ggml_repeat_4d(context_, repeated, r.head_dim_k, r.n_head_v / r.n_head_k, r.n_head_k, n);
    return ggml_reshape_4d(context_, repeated, r.head_dim_k, r.n_head_v, n, 1);
}

ggml_tensor* LayerGraph::delta_net(const LayerWeights& w, ggml_tensor* input, std::span<ggml_tensor* const> states,
                                   std::vector<ggml_tensor*>& writes) const {
    const auto& r = hparams_.recurrent;
    const int64_t n = input->ne[1];
    const auto projected = delta_input(w, input);
    ggml_tensor* channels = projected.channels;
    ggml_tensor* beta = ggml_sigmoid(context_, projected.beta);
    ggml_tensor* decay = ggml_softplus(context_, ggml_add(context_, projected.alpha, w.ssm_dt));
    decay = ggml_mul(context_, decay, w.ssm_a);
    ggml_tensor* out = by_sequence(context_, states, 2, [&](ggml_tensor* state, const auto& tokens) {
        ggml_tensor* mixed = ggml_silu(context_, convolve(w, tokens(channels), state, writes));
        return delta_rule(mixed, tokens(decay), tokens(beta), state, writes);
    });
    ggml_tensor* gate = ggml_reshape_3d(context_, projected.gate, r.head_dim_v, r.n_head_v, n);
    out = ggml_mul(context_, normalise(out, w.ssm_norm), ggml_silu(context_, gate));
    return product(w.recurrent_output, ggml_reshape_2d(context_, out, r.value_width(), n));
}

/// The recurrence of one sequence. `mixed`: [queries | keys | values of all heads, n]; `decay`, `beta`: [n_head_v, n].
/// Returns [head_dim_v, n_head_v, n].
ggml_tensor* LayerGraph::delta_rule(ggml_tensor* mixed, ggml_tensor* decay, ggml_tensor* beta, ggml_tensor* state,
                                    std::vector<ggml_tensor*>& writes) const {
    const auto& r = hparams_.recurrent;
    const int64_t n = mixed->ne[1];
    const auto of_heads = [&](ggml_tensor* x) { return ggml_reshape_4d(context_, x, 1, r.n_head_v, n, 1); };
    const auto of_length_1 = [&](ggml_tensor* x) {
        const auto n_values = static_cast<float>(r.head_dim_k);
        ggml_tensor* normed = ggml_rms_norm(context_, x, hparams_.norm_eps / n_values);
        return ggml_scale(context_, normed, 1 / std::sqrt(n_values));
    };
    ggml_tensor* q = for_each_value(of_length_1(recurrent_heads(mixed, r.head_dim_k, r.n_head_k, 0)));
    ggml_tensor* k = for_each_value(of_length_1(recurrent_heads(mixed, r.head_dim_k, r.n_head_k, r.key_width())));
    ggml_tensor* v = recurrent_heads(mixed, r.head_dim_v, r.n_head_v, 2 * int64_t{r.key_width()});
    ggml_tensor* packed =
        ggml_gated_delta_net(context_, q, k, v, of_heads(decay), of_heads(beta), state_matrices(state), 1);
    return unpack(packed, n, state, writes);
}

/// Splits the result of an operation, values and then matrices of the state, of which the latter are written back.
/// Returns the values: [head_dim_v, n_head_v, n].
ggml_tensor* LayerGraph::unpack(ggml_tensor* packed, int64_t n, ggml_tensor* state,
                                std::vector<ggml_tensor*>& writes) const {
    const auto& r = hparams_.recurrent;
    const int64_t n_values = int64_t{r.value_width()} * n;
    const int64_t n_matrices = int64_t{r.value_width()} * r.head_dim_k;
    ggml_tensor* fresh = ggml_view_1d(context_, packed, n_matrices, static_cast<size_t>(n_values) * sizeof(float));
    ggml_tensor* held =
        ggml_view_1d(context_, state, n_matrices, static_cast<size_t>(r.n_conv_state()) * sizeof(float));
    writes.push_back(ggml_cpy(context_, fresh, held));
    const auto row = static_cast<size_t>(r.head_dim_v) * sizeof(float);
    return ggml_view_3d(context_, packed, r.head_dim_v, r.n_head_v, n, row, row * static_cast<size_t>(r.n_head_v), 0);
}

ggml_tensor* LayerGraph::mamba2(const LayerWeights& w, ggml_tensor* input, std::span<ggml_tensor* const> states,
                                std::vector<ggml_tensor*>& writes) const {
    const auto& r = hparams_.recurrent;
    const int64_t n = input->ne[1];
    ggml_tensor* projected = product(w.conv_in, input);  // [gate | channels | steps, n]
    const auto rows = [&](int64_t begin, int64_t n_rows) {
        return ggml_view_2d(context_, projected, n_rows, n, projected->nb[1],
                            static_cast<size_t>(begin) * sizeof(float));
    };
    ggml_tensor* channels = rows(r.value_width(), r.n_channels);
    ggml_tensor* steps = rows(int64_t{r.value_width()} + r.n_channels, r.n_head_v);
    steps = ggml_add(context_, ggml_cont(context_, steps), w.ssm_dt);
    // The operation finds the state of a sequence by its index. Here, each has a tensor of its own.
    ggml_tensor* index = ggml_cast(context_, ggml_arange(context_, 0, 1, 1), GGML_TYPE_I32);
    ggml_tensor* out = by_sequence(context_, states, 2, [&](ggml_tensor* state, const auto& tokens) {
        ggml_tensor* mixed = convolve(w, tokens(channels), state, writes);
        if (w.conv_bias != nullptr) mixed = ggml_add(context_, mixed, w.conv_bias);
        return selective_scan(w, ggml_silu(context_, mixed), tokens(steps), state, index, writes);
    });
    ggml_tensor* gate = ggml_cont_3d(context_, rows(0, r.value_width()), r.head_dim_v, r.n_head_v, n);
    out = ggml_swiglu_split(context_, gate, out);
    out = ggml_reshape_3d(context_, out, r.value_width() / r.n_head_k, r.n_head_k, n);
    return product(w.recurrent_output, ggml_reshape_2d(context_, normalise(out, w.ssm_norm), r.value_width(), n));
}

/// The recurrence of one sequence. `mixed`: [values | keys | queries of all heads, n]; `steps`: [n_head_v, n].
/// `index`: i32 [1], 0. Returns [head_dim_v, n_head_v, n].
ggml_tensor* LayerGraph::selective_scan(const LayerWeights& w, ggml_tensor* mixed, ggml_tensor* steps,
                                        ggml_tensor* state, ggml_tensor* index,
                                        std::vector<ggml_tensor*>& writes) const {
    const auto& r = hparams_.recurrent;
    const int64_t n = mixed->ne[1];
    ggml_tensor* x = recurrent_heads(mixed, r.head_dim_v, r.n_head_v, 0);
    ggml_tensor* keys = recurrent_heads(mixed, r.head_dim_k, r.n_head_k, r.value_width());
    ggml_tensor* queries = recurrent_heads(mixed, r.head_dim_k, r.n_head_k, int64_t{r.value_width()} + r.key_width());
    ggml_tensor* packed = ggml_ssm_scan(context_, state_matrices(state), x, steps, w.ssm_a, keys, queries, index, 1);
    return ggml_add(context_, unpack(packed, n, state, writes), ggml_mul(context_, x, w.ssm_d));
}

}  // namespace cake
