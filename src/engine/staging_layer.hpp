#pragma once

#include <span>
#include <vector>

#include "backend/graph.hpp"
#include "engine/sequence_parts.hpp"
#include "eviction/layer_keys.hpp"
#include "memory/kv_buffer.hpp"
#include "memory/kv_store.hpp"
#include "model/layer_graph.hpp"

namespace cake {

/// Maximum number of tokens that a KV head of the layer holds.
int64_t max_held(const KvStore& store, int32_t layer);
/// Maximum number of tokens that a KV head of any layer holds.
int64_t max_held(const SequenceParts& state);

/// The K and V of the layer that is being computed, in full: for each KV head, [tokens kept from earlier segments | the
/// segment]. The same buffer is used for all layers of a kind. If KV heads kept different numbers of tokens, they are
/// placed so that the segment begins in the same row of each.
class StagingLayer {
  public:
    StagingLayer() = default;
    /// Allocates `n_rows` slots for each KV head: the maximum number of tokens that a layer has kept, plus the segment
    /// and the longest part of a replay. `least_bytes`: size of its buffer, if the slots take less.
    static Result<StagingLayer> allocate(Accountant& accountant, const DeviceMemory& memory, const KvShape& shape,
                                         int64_t n_rows, int64_t n_segment, size_t least_bytes = 0);
    /// A staging layer in the same buffer, for layers of another shape. Only one of them can be used at a time.
    Result<StagingLayer> reshaped(Accountant& accountant, const KvShape& shape) const;

    /// Copies the tokens that a layer kept. The segment follows them and begins at position `position` of the text.
    void copy(const KvStore& store, int32_t layer, int32_t position);
    /// Like copy(), but also removes the tokens from the store.
    void take(KvStore& store, int32_t layer, int32_t position);

    const KvBuffer& buffer() const { return buffer_; }
    int64_t segment_begin() const { return n_kept_; }  // first row of the segment in each KV head
    /// Returns the slots of every KV head up to token `end` of the segment. Beyond the segment are the rows of a
    /// replay.
    std::vector<HeadSlots> slots_to(int64_t end) const;
    std::vector<std::vector<float>>& sums() { return sums_; }
    /// Scores of the tokens kept from earlier segments, by KV head.
    const std::vector<std::vector<float>>& kept_scores() const { return kept_scores_; }
    LayerKeys keys(int32_t window) const;

    /// Adds nodes that write K and V of a chunk, if it has them, to the rows `at` of every KV head.
    void put(Graph& graph, const Projections& projected, ggml_tensor* at) const;

  private:
    StagingLayer(Accountant& accountant, KvBuffer buffer, int64_t n_rows, int64_t n_segment);
    void put(Graph& graph, ggml_tensor* values, ggml_tensor* rows, ggml_tensor* at) const;

    KvBuffer buffer_;
    int64_t n_segment_ = 0;
    int64_t n_rows_ = 0;                           // capacity of a KV head in tokens
    int64_t n_kept_ = 0;                           // tokens of earlier segments in the KV head that kept the most
    std::vector<HeadSlots> slots_;                 // [n_head_kv]
    std::vector<std::vector<int32_t>> positions_;  // by KV head
    std::vector<std::vector<float>> sums_;         // by KV head, cumulative attention
    std::vector<std::vector<float>> kept_scores_;  // by KV head
    AccountedBytes notes_;                         // memory of these
};

}  // namespace cake
