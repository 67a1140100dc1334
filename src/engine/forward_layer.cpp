#include "engine/forward_layer.hpp"

namespace cake {

namespace {

/// A view of the last `n` tokens of `x`, whose dimension `dim` counts tokens.
ggml_tensor* last_tokens(const Graph& graph, ggml_tensor* x, int dim, int64_t n) {
    const int64_t n_skipped = x->ne[dim] - n;
    if (n_skipped == 0) return x;
    const size_t offset = static_cast<size_t>(n_skipped) * x->nb[dim];
    if (dim == 0) return ggml_view_1d(graph.context(), x, n, offset);
    return dim == 1 ? ggml_view_2d(graph.context(), x, x->ne[0], n, x->nb[1], offset)
                    : ggml_view_3d(graph.context(), x, x->ne[0], x->ne[1], n, x->nb[1], x->nb[2], offset);
}

ggml_tensor* recur(Graph& graph, const LayerGraph& nodes, int32_t layer, ggml_tensor* input,
                   std::span<ggml_tensor* const> states) {
    std::vector<ggml_tensor*> writes;
    ggml_tensor* mixed = nodes.recur(layer, input, states, writes);
    for (ggml_tensor* write : writes) graph.add(write);
    return mixed;
}

}  // namespace

LayerOutput forward_layer(Graph& graph, const AttentionMethod& method, const LayerGraph& nodes, int32_t layer,
                          const LayerInput& input, int64_t n_outputs, const KvSink& sink) {
    ggml_tensor* x = nodes.attention_input(layer, input.hidden);
    const auto projected = nodes.project(layer, x, input.positions);
    ggml_tensor* beside = input.states.empty() ? nullptr : recur(graph, nodes, layer, x, input.states);
    auto slots = sink(projected);
    if (n_outputs == 0) return {};
    LayerOutput output;
    output.attended =
        attend(graph, method, nodes.traits(layer), last_tokens(graph, projected.query, 2, n_outputs), std::move(slots));
    const auto last = [&](ggml_tensor* of_tokens, int dim) {
        return of_tokens != nullptr ? last_tokens(graph, of_tokens, dim, n_outputs) : nullptr;
    };
    const AttentionResult result{
        .attention = output.attended.node, .gate = last(projected.gate, 1), .beside = last(beside, 1)};
    output.hidden = nodes.finish(layer, last(input.hidden, 1), result, last(input.tokens, 0));
    return output;
}

ggml_tensor* forward_recurrent_layer(Graph& graph, const LayerGraph& nodes, int32_t layer, ggml_tensor* hidden,
                                     int64_t n_outputs, std::span<ggml_tensor* const> states) {
    ggml_tensor* mixed = recur(graph, nodes, layer, nodes.attention_input(layer, hidden), states);
    if (n_outputs == 0) return nullptr;
    return nodes.finish_recurrent(layer, last_tokens(graph, hidden, 1, n_outputs),
                                  last_tokens(graph, mixed, 1, n_outputs));
}

}  // namespace cake
