#include "engine/recurrent_layer.hpp"

#include "engine/forward_layer.hpp"

namespace cake {

Result<void> run_recurrent_layer(GraphRunner& runner, const EngineState& engine, int32_t layer,
                                 const HiddenStates& hidden, int64_t begin, int64_t end, int64_t output_begin,
                                 ggml_tensor* state) {
    Graph graph(LayerGraph::max_nodes(engine.hparams));
    const LayerGraph nodes(graph.context(), engine.hparams, engine.weights);
    ggml_tensor* output =
        forward_recurrent_layer(graph, nodes, layer, hidden.read(graph, begin, end), end - output_begin, {&state, 1});
    if (output != nullptr) hidden.write(graph, output, output_begin, end);
    if (auto allocated = runner.allocate(graph); !allocated) return allocated;
    return runner.compute(graph);
}

}  // namespace cake
