#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "eviction/layer_keys.hpp"
#include "eviction/managed_cache.hpp"
#include "method/cascade.hpp"

namespace cake {

/// The Eviction Manager during the prefill of one segment. It moves each layer into the store after it has been
/// computed, shrinks the layers before it, and keeps the store within the budget at every stage.
class SegmentEviction {
  public:
    /// `n_new`: tokens that each layer adds to those that it has in the store. `n_after`: tokens of the text including
    /// the segment.
    SegmentEviction(const ManagedCache& managed, int64_t n_new, int64_t n_after);

    /// True if join() drops tokens.
    bool evicts() const { return !fits_; }
    /// True if join() needs the layer's window statistics.
    bool reads_window() const { return !fits_ && managed_.rules.reads_window(); }

    /// Moves the tokens that `layer` keeps from the staging layer into the store, after shrinking the layers before it.
    /// Call it for all sliced layers in ascending order.
    Result<void> join(GraphRunner& runner, int32_t layer, const LayerKeys& keys);

  private:
    using Scores = std::vector<std::vector<float>>;
    using Kept = std::vector<std::vector<int32_t>>;

    int64_t total_tokens() const;
    void keep_all(int32_t layer, const LayerKeys& keys);
    Kept slice_layers(int32_t layer, const LayerKeys& keys, const Scores& scores);
    Kept slice_model(int32_t layer, const LayerKeys& keys, const Scores& scores);
    void report_stage(std::span<const int32_t> n_kept);
    void move_in(int32_t layer, const LayerKeys& keys, std::span<const std::vector<int32_t>> kept,
                 std::span<const std::vector<float>> scores);

    ManagedCache managed_;
    int64_t n_after_;
    bool fits_;            // true if the store has room for all tokens, so that none are scored or dropped
    size_t n_joined_ = 0;  // number of sliced layers in the store
    Cascade cascade_;
};

}  // namespace cake
