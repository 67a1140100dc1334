#pragma once

#include <span>
#include <vector>

#include "engine/query_moments.hpp"
#include "engine/replay.hpp"
#include "engine/sequence_parts.hpp"
#include "engine/staging_layer.hpp"
#include "eviction/segment_eviction.hpp"

namespace cake {

/// Chooses at the end of each layer of a prefill which tokens the caches keep.
class TokenKeeper {
  public:
    /// `sequences` and `analysis` must outlive this. `from_base`: the sequences are still empty, and get their text
    /// from another one.
    TokenKeeper(std::span<SequenceParts* const> sequences, GraphRunner& analysis, int64_t n_segment, bool from_base);

    /// Whether a sequence has to evict tokens of the segment.
    bool evicts(size_t sequence) const { return evictions_[sequence].evicts(); }
    /// Moves the tokens that are kept from the staging layer to the caches. `moments`, `replay`: null if no scorer
    /// reads them.
    Result<void> keep(int32_t layer, const StagingLayer& staging, const LayerMoments* moments, ReplayPass* replay);

  private:
    SequenceParts& first() const { return *sequences_.front(); }
    Result<std::optional<AttentionStats>> analyse(int32_t layer, const LayerKeys& keys);
    Result<std::vector<std::vector<float>>> shared_output_norms(int32_t layer, const LayerKeys& keys);

    std::span<SequenceParts* const> sequences_;
    GraphRunner& analysis_;
    int64_t n_segment_;
    std::vector<SegmentEviction> evictions_;  // one for each sequence
};

}  // namespace cake
