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
    ggml_tensor* gate = projected.gate != nullptr ? last_tokens(graph, projected.gate, 1, n_outputs) : nullptr;
    output.hidden = nodes.finish(layer, last_tokens(graph, hidden, 1, n_outputs), output.attended.node, gate);
    return output;
}

ggml_tensor* forward_recurrent_layer(Graph& graph, const LayerGraph& nodes, int32_t layer, ggml_tensor* hidden,
                                     int64_t n_outputs, std::span<ggml_tensor* const> states) {
    std::vector<ggml_tensor*> writes;
    ggml_tensor* mixed = nodes.recur(layer, nodes.attention_input(layer, hidden), states, writes);
    for (ggml_tensor* write : writes) graph.add(write);
    if (n_outputs == 0) return nullptr;
    return nodes.finish_recurrent(layer, last_tokens(graph, hidden, 1, n_outputs),
                                  last_tokens(graph, mixed, 1, n_outputs));
}

}  // namespace cake
