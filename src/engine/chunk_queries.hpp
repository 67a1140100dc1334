#pragma once

#include "backend/accounted_tensor.hpp"
#include "backend/graph.hpp"
#include "engine/sequence_parts.hpp"
#include "engine/staging_layer.hpp"

namespace cake {

/// The queries of a chunk of tokens in one layer, for scorers that read the attention of all queries.
class ChunkQueries {
  public:
    ChunkQueries() = default;
    static Result<ChunkQueries> allocate(SequenceParts& sequence, int64_t n_tokens);

    ggml_tensor* rows(int32_t layer) const { return rows_.of(layer); }  // f32 [head_dim_k * n_head, n_tokens]
    bool is_kept() const { return !rows_.is_empty(); }
    /// Adds a node that stores `query`, [head_dim_k, n_head, n].
    void store(Graph& graph, int32_t layer, ggml_tensor* query) const;
    /// Adds the attention of the stored queries, those of the tokens [begin, end) of the segment, to the cumulative
    /// attention of the layer.
    Result<void> sum(GraphRunner& runner, const CacheRules& rules, int32_t layer, StagingLayer& staging, int64_t begin,
                     int64_t end) const;

  private:
    PartTensors rows_;
};

}  // namespace cake
