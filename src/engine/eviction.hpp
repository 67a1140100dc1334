#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/scoring.hpp"
#include "engine/sequence_parts.hpp"
#include "method/cascade.hpp"

namespace cake {

/// The eviction manager of one segment's prefill: takes each layer when it is done, shrinks those before it, and keeps
/// the store within the budget at every stage.
class SegmentEviction {
  public:
    /// `n_new`: tokens that each layer holds beside what it has in the store; `n_after`: tokens of the text when the
    /// segment is read.
    SegmentEviction(SequenceParts& state, int64_t n_new, int64_t n_after);

    /// Whether join() has to be given the layer's statistics.
    bool reads_window() const { return !fits_ && state_.config.reads_window(); }

    /// Moves `layer`, in the staging layer, into the store. Sliced layers join in ascending order.
    Result<void> join(int32_t layer, const LayerKeys& keys);

  private:
    int64_t total_tokens() const;
    std::span<const int32_t> slice(int32_t layer, int64_t n_keys, const AttentionStats* stats);
    void move_in(int32_t layer, const LayerKeys& keys, std::span<const std::vector<int32_t>> kept,
                 std::span<const std::vector<float>> scores);

    SequenceParts& state_;
    int64_t n_after_;
    bool fits_;            // everything does, so nothing is scored or dropped
    size_t n_joined_ = 0;  // sliced layers
    Cascade cascade_;
};

/// After the last layer was read or sliced: each gets the room that it decodes into.
void make_room_for_decoding(SequenceParts& state);

/// A layer that attends to a sliding window, in the staging layer, leaves its window with the sequence.
void keep_window(SequenceParts& state, int32_t layer, const LayerKeys& keys);
/// Makes room for the next token in a layer that keeps a window: what no later token sees goes.
void slide_window(SequenceParts& state, int32_t layer);

/// Whether nothing of the text has been dropped, so that the budgets are still uniform.
bool holds_whole_text(const SequenceParts& state);
/// Decoding fills the layers of a text that fitted: scores all of them with the queries in the ring and slices the
/// budget over them, as after a prompt.
Result<void> slice_decoded(GraphRunner& runner, SequenceParts& state);
/// Decoding: scores a layer again with the queries in the ring and drops all but what it may keep.
Result<void> evict_decoded(GraphRunner& runner, SequenceParts& state, int32_t layer);

/// Counts the attention of those decoded queries in the ring that the sums of the layer do not hold yet.
Result<void> add_decoded_attention(GraphRunner& runner, SequenceParts& state, int32_t layer);

}  // namespace cake
