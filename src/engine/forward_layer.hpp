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

/// The n new tokens of a layer.
struct LayerInput {
    ggml_tensor* hidden;            // f32 [n_embd, n]
    ggml_tensor* positions;         // i32 [n]
    ggml_tensor* tokens = nullptr;  // i32 [n]; needed only with Hparams::n_embd_per_layer
    // The states of a recurrence beside attention, one for each sequence; see LayerGraph::recur().
    std::span<ggml_tensor* const> states{};
};

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
LayerOutput forward_layer(Graph& graph, const AttentionMethod& method, const LayerGraph& nodes, int32_t layer,
                          const LayerInput& input, int64_t n_outputs, const KvSink& sink);

}  // namespace cake
