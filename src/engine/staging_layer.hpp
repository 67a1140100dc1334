#pragma once

#include <span>
#include <vector>

#include "engine/attention.hpp"
#include "engine/scoring.hpp"
#include "engine/sequence_parts.hpp"
#include "memory/kv_buffer.hpp"
#include "memory/kv_store.hpp"

namespace cake {

/// Of a layer's KV heads, the most tokens that one holds.
int64_t most_held(const KvStore& store, int32_t layer);
/// The same of all layers of a sequence.
int64_t most_held(const SequenceParts& state);

/// The one layer whose K and V stand in full: for each KV head [what earlier segments left | the segment], used again
/// for every layer. Heads that were left unequally many tokens lie so that the segment begins in the same row.
class StagingLayer {
  public:
    /// Room for `n_rows` tokens of each KV head: the most that any layer holds, and the segment.
    static Result<StagingLayer> allocate(Accountant& accountant, ggml_backend_buffer_type_t type, const KvShape& shape,
                                         int64_t n_rows, int64_t n_segment);

    /// Copies what a layer kept; the segment's tokens follow from `position`.
    void copy(const KvStore& store, int32_t layer, int32_t position);
    /// The same, and the store drops it.
    void take(KvStore& store, int32_t layer, int32_t position);

    const KvBuffer& buffer() const { return buffer_; }
    int64_t segment_begin() const { return n_kept_; }  // row
    /// The slots of every KV head, without the last `n_unseen` tokens of the segment.
    std::vector<HeadSlots> slots(int64_t n_unseen = 0) const;
    std::vector<std::vector<float>>& sums() { return sums_; }
    LayerKeys keys(int32_t window) const;

    /// Puts a chunk's K or V, [head_dim, n_head_kv, n], into the rows `at` of every KV head of `rows`, which is
    /// buffer().k() or v().
    ggml_tensor* put(const Graph& graph, ggml_tensor* values, ggml_tensor* rows, ggml_tensor* at) const;

  private:
    KvBuffer buffer_;
    int64_t n_segment_ = 0;
    int64_t n_rows_ = 0;                           // tokens that a KV head has room for
    int64_t n_kept_ = 0;                           // tokens of earlier segments, of the KV head with most
    std::vector<HeadSlots> slots_;                 // [n_head_kv]
    std::vector<std::vector<int32_t>> positions_;  // by KV head
    std::vector<std::vector<float>> sums_;         // by KV head, attention from all queries
    AccountedBytes notes_;                         // of these two
};

}  // namespace cake
