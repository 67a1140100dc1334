#pragma once

#include <functional>
#include <span>
#include <vector>

#include "backend/attention.hpp"
#include "backend/graph.hpp"
#include "model/layer_graph.hpp"

namespace cake {

/// Stores K and V of new tokens, and their queries if a policy reads them. Returns the slots that the queries of each
/// sequence attend to.
using KvSink = std::function<std::vector<AttendedSlots>(const Projections& projected)>;

/// The output of a layer for new tokens.
struct LayerOutput {
    ggml_tensor* hidden = nullptr;  // [n_embd, n_outputs]; null if n_outputs is 0
    Attended attended;              // call set_masks() on it after the graph has been allocated
};

/// Adds a recurrent layer for n new tokens to `graph`, the same number of each sequence whose state is given; see
/// LayerGraph::recur(). All tokens change the states, but only the last `n_outputs` go through the feed-forward.
/// Returns [n_embd, n_outputs], or null if n_outputs is 0.
ggml_tensor* forward_recurrent_layer(Graph& graph, const LayerGraph& nodes, int32_t layer, ggml_tensor* hidden,
                                     int64_t n_outputs, std::span<ggml_tensor* const> states);

/// Adds a layer of the model for n new tokens to `graph`. Only the last `n_outputs` tokens go through attention and
/// feed-forward; for the others, only K and V are computed.
/// `hidden`: f32 [n_embd, n]; `positions`: i32 [n].
LayerOutput forward_layer(Graph& graph, const AttentionMethod& method, const LayerGraph& nodes, int32_t layer,
                          ggml_tensor* hidden, ggml_tensor* positions, int64_t n_outputs, const KvSink& sink);

}  // namespace cake
