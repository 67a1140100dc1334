#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/graph.hpp"
#include "engine/sequence_state.hpp"
#include "method/attention_stats.hpp"
#include "method/cascade.hpp"

namespace cake {

/// The eviction manager of one segment's prefill: takes each layer when it is done, shrinks those before it, and keeps
/// the store within the budget at every stage.
class SegmentEviction {
  public:
    SegmentEviction(SequenceState& state, int64_t n_segment);

    /// Whether join() has to be given the layer's statistics.
    bool reads_attention() const { return !fits_ && state_.reads_attention(); }

    /// Layer `layer` in flight, with tokens of KV head h from slot `head_begin[h]` and at `positions[h]`, moves into
    /// the store. `stats`: of its keys outside the window; null where nothing reads attention.
    void join(int32_t layer, const KvBuffer& flight, std::span<const int64_t> head_begin,
              const std::vector<std::vector<int32_t>>& positions, const AttentionStats* stats);

    /// After the last layer: each gets the room that it decodes into.
    void make_room_for_decoding();

  private:
    int64_t total_tokens(int32_t layer) const;
    void arrange(int32_t layer, int32_t n_joining);

    SequenceState& state_;
    bool fits_;  // everything does, so nothing is scored or dropped
    Cascade cascade_;
};

/// Decoding: scores a layer again with the queries in the ring and drops all but what it may keep.
Result<void> evict_decoded(GraphRunner& runner, SequenceState& state, int32_t layer);

}  // namespace cake
