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

    ggml_tensor* rows() const { return rows_.get(); }  // f32 [head_dim_k * n_head, n_tokens]
    bool is_kept() const { return rows_.get() != nullptr; }
    /// Adds a node that stores `query`, [head_dim_k, n_head, n].
    void store(Graph& graph, ggml_tensor* query) const;
    /// Adds the attention of the stored queries, those of the tokens [begin, end) of the segment, to the cumulative
    /// attention of the layer.
    Result<void> sum(GraphRunner& runner, const CacheRules& rules, int32_t layer, StagingLayer& staging, int64_t begin,
                     int64_t end) const;

  private:
    AccountedTensor rows_;
};

}  // namespace cake
