#pragma once

#include <vector>

#include "backend/graph.hpp"
#include "eviction/layer_keys.hpp"
#include "method/expected_attention.hpp"
#include "model/layer_graph.hpp"

namespace cake {

/// Mean and covariance of the queries of a segment in one layer, for Expected Attention. They are computed with ggml
/// chunk by chunk while the layer is computed.
class LayerMoments {
  public:
    explicit LayerMoments(const Hparams& hparams) : hparams_(hparams), moments_(hparams.n_head, hparams.head_dim_k) {}

    void begin_layer() { moments_ = {hparams_.n_head, hparams_.head_dim_k}; }
    /// Adds nodes for the tokens of a chunk, whose first one has the position `position`. The sinks of the text are
    /// left out. `queries`: before RoPE, [head_dim_k, n_head, n].
    void add_nodes(Graph& graph, ggml_tensor* queries, int64_t position);
    /// Adds the results to the moments after the graph has been computed.
    void take();
    /// The queries expected at the `kFuture` positions from `position` on.
    Result<ExpectedQueries> expected(GraphRunner& runner, const Weights& weights, int32_t layer,
                                     int64_t position) const;

    static constexpr int32_t kFuture = 512;
    static constexpr size_t kNodes = 16;

  private:
    Result<std::vector<float>> mean_rotation(GraphRunner& runner, const Weights& weights, int32_t layer,
                                             int64_t position) const;

    const Hparams& hparams_;
    QueryMoments moments_;
    int64_t n_ = 0;                    // tokens of the chunk that are counted
    ggml_tensor* mean_ = nullptr;      // [1, head_dim_k, n_head] of the chunk
    ggml_tensor* products_ = nullptr;  // [head_dim_k, head_dim_k, n_head] of the chunk
};

}  // namespace cake
