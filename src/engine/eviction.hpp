#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/scoring.hpp"
#include "engine/sequence_parts.hpp"
#include "method/cascade.hpp"

namespace cake {

/// The Eviction Manager during the prefill of one segment. It moves each layer into the store after it has been
/// computed, shrinks the layers before it, and keeps the store within the budget at every stage.
class SegmentEviction {
  public:
    /// `n_new`: tokens that each layer adds to those that it has in the store. `n_after`: tokens of the text including
    /// the segment.
    SegmentEviction(SequenceParts& state, int64_t n_new, int64_t n_after);

    /// True if join() needs the layer's window statistics.
    bool reads_window() const { return !fits_ && state_.config.reads_window(); }

    /// Moves the tokens that `layer` keeps from the staging layer into the store, after shrinking the layers before it.
    /// Call it for all sliced layers in ascending order.
    Result<void> join(int32_t layer, const LayerKeys& keys);

  private:
    int64_t total_tokens() const;
    std::span<const int32_t> slice(int32_t layer, int64_t n_keys, const AttentionStats* stats);
    void move_in(int32_t layer, const LayerKeys& keys, std::span<const std::vector<int32_t>> kept,
                 std::span<const std::vector<float>> scores);

    SequenceParts& state_;
    int64_t n_after_;
    bool fits_;            // true if the store has room for all tokens, so that none are scored or dropped
    size_t n_joined_ = 0;  // number of sliced layers in the store
    Cascade cascade_;
};

/// Distributes the free slots of the store equally over its runs, for decoding. Called after a prefill, or after
/// slice_decoded() has shrunk all layers. Sets the budgets of the layers.
void make_room_for_decoding(SequenceParts& state);

/// Copies the tokens in a layer's sliding window from the staging layer into the sequence's cache.
void keep_window(SequenceParts& state, int32_t layer, const LayerKeys& keys);
/// Makes room for the next token in a sliding layer by dropping the tokens that no later token attends to.
void slide_window(SequenceParts& state, int32_t layer);

/// True if no token of the text has been dropped, so that the budgets are still uniform.
bool holds_whole_text(const SequenceParts& state);
/// Called during decoding when the layers of a text that fitted are full. Scores all layers with the queries in the
/// ring and divides the budget among them as after a prompt.
Result<void> slice_decoded(GraphRunner& runner, SequenceParts& state);
/// Called during decoding when a layer is full. Scores it again with the queries in the ring and shrinks it to its
/// budget.
Result<void> evict_decoded(GraphRunner& runner, SequenceParts& state, int32_t layer);

/// Adds the attention of those decoded queries in the ring to the layer's cumulative attention that it does not include
/// yet.
Result<void> add_decoded_attention(GraphRunner& runner, SequenceParts& state, int32_t layer);

}  // namespace cake
