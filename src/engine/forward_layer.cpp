#include "engine/forward_layer.hpp"

namespace cake {

namespace {

/// A view of the last `n` tokens of `x`, whose dimension `dim` counts tokens.
ggml_tensor* last_tokens(const Graph& graph, ggml_tensor* x, int dim, int64_t n) {
    const int64_t n_skipped = x->ne[dim] - n;
    if (n_skipped == 0) return x;
    const size_t offset = static_cast<size_t>(n_skipped) * x->nb[dim];
    return dim == 1 ? ggml_view_2d(graph.context(), x, x->ne[0], n, x->nb[1], offset)
                    : ggml_view_3d(graph.context(), x, x->ne[0], x->ne[1], n, x->nb[1], x->nb[2], offset);
}

}  // namespace

LayerOutput forward_layer(Graph& graph, const AttentionMethod& method, const LayerGraph& nodes, int32_t layer,
                          ggml_tensor* hidden, ggml_tensor* positions, int64_t n_outputs, const KvSink& sink) {
    const auto projected = nodes.project(layer, nodes.attention_input(layer, hidden), positions);
    auto slots = sink(projected);
    if (n_outputs == 0) return {};
    LayerOutput output;
    output.attended =
        attend(graph, method, nodes.traits(layer), last_tokens(graph, projected.query, 2, n_outputs), std::move(slots));
    output.hidden = nodes.finish(layer, last_tokens(graph, hidden, 1, n_outputs), output.attended.node);
    return output;
}

}  // namespace cake
