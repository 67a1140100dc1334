#pragma once

#include <vector>

#include "engine/chunk_queries.hpp"
#include "engine/hidden_states.hpp"
#include "engine/replay_plan.hpp"
#include "engine/sequence_parts.hpp"
#include "engine/staging_layer.hpp"
#include "model/layer_graph.hpp"

namespace cake {

/// The replay of a segment (KVzip): the tokens with which the model repeats the text pass through each layer after the
/// text, while the layer's K and V are there in full. What they attend to is important. Their own K and V are held for
/// one chunk at a time, in the rows of the staging layer after the segment.
class ReplayPass {
  public:
    /// Which importance the sequences read.
    struct Wanted {
        bool attention = false;
        bool output = false;
        bool any() const { return attention || output; }
    };

    /// `sequence`, whose accountant counts the memory, must outlive this. `position`: that of the first token after the
    /// text.
    static Result<ReplayPass> make(SequenceParts& sequence, std::span<const Token> text, int64_t position,
                                   Wanted wanted);

    /// Rows that the staging layer needs after the segment.
    int64_t n_rows() const;
    int64_t n_tokens() const { return n_tokens_; }
    /// Number of steps for each layer, and for the embedding.
    size_t n_steps() const { return batches_.size(); }

    /// Whether the layer is computed. Those after the last layer that is scored are not.
    bool reaches(int32_t layer) const { return layer <= last_layer(); }
    /// Embeds the tokens of a step.
    Result<void> embed(GraphRunner& runner, size_t step);
    /// Begins a layer whose text the staging layer holds.
    Result<void> begin_layer(GraphRunner& runner, const StagingLayer& staging, int32_t layer);
    /// Computes the layer for the tokens of a step.
    Result<void> run(GraphRunner& runner, GraphRunner& analysis, const StagingLayer& staging, size_t step);
    /// Adds the importance of all tokens of the layer.
    void add_to(LayerKeys& keys);

  private:
    /// Tokens that are computed at once.
    struct Batch {
        size_t chunk = 0;
        int64_t begin = 0;  // first token, within the chunk's replay
        int64_t end = 0;
        int64_t row = 0;  // row of the first token in hidden_
    };
    using Importance = std::vector<std::vector<float>>;  // [n_head_kv], each [tokens of the staging layer]

    explicit ReplayPass(SequenceParts& sequence) : sequence_(&sequence) {}
    const EngineState& engine() const { return *sequence_->config.engine; }
    int32_t last_layer() const { return sequence_->config.layout.sliced_layers.back(); }
    LayerGraph layer_graph(const Graph& graph) const { return {graph.context(), engine().hparams, engine().weights}; }
    std::span<const int32_t> tokens_of(const Batch& batch) const {
        return std::span(chunks_[batch.chunk].tokens)
            .subspan(static_cast<size_t>(batch.begin), static_cast<size_t>(batch.end - batch.begin));
    }
    Result<void> score(GraphRunner& analysis, const StagingLayer& staging, const Batch& batch,
                       std::vector<float> hidden_norms);

    SequenceParts* sequence_;
    Wanted wanted_;
    std::vector<ReplayChunk> chunks_;
    std::vector<Batch> batches_;
    int64_t n_text_ = 0;
    int64_t n_tokens_ = 0;
    int64_t position_ = 0;
    HiddenStates hidden_;
    PartTensors states_;  // f32 [n_state] state of a recurrent layer after a chunk's tokens so far
    ChunkQueries queries_;
    int32_t layer_ = 0;
    bool scored_ = false;                    // whether tokens of the layer are scored
    std::vector<std::vector<float>> norms_;  // [n_head], each [n_text]; only if output is wanted
    Importance attention_;
    Importance output_;
};

}  // namespace cake
