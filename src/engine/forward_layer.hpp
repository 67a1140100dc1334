#pragma once

#include <functional>
#include <vector>

#include "engine/attention.hpp"
#include "engine/graph.hpp"
#include "model/layer_graph.hpp"

namespace cake {

/// Stores the K and V of new tokens, and their queries if a policy reads them; returns the slots that the queries of
/// each sequence attend to.
using KvSink = std::function<std::vector<AttendedSlots>(const Projections& projected)>;

/// What a layer makes of new tokens.
struct LayerOutput {
    ggml_tensor* hidden = nullptr;  // [n_embd, n_outputs]; null if n_outputs is 0
    Attended attended;              // set_masks() after the graph is allocated
};

/// A layer of the model for n new tokens, as nodes of `graph`: `hidden`, f32 [n_embd, n]; `positions`, i32 [n]. Only
/// the last `n_outputs` tokens attend and go on; of the others K and V are all that is needed.
LayerOutput forward_layer(Graph& graph, const AttentionMethod& method, const LayerGraph& nodes, int32_t layer,
                          ggml_tensor* hidden, ggml_tensor* positions, int64_t n_outputs, const KvSink& sink);

}  // namespace cake
