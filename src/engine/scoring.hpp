#pragma once

#include <span>
#include <vector>

#include "engine/attention.hpp"
#include "engine/sequence_parts.hpp"
#include "method/attention_stats.hpp"

namespace cake {

/// All tokens of one layer and the inputs of a scorer for them, by KV head. The tokens of the window come last.
struct LayerKeys {
    const KvBuffer& buffer;
    std::vector<HeadSlots> slots;
    std::vector<std::span<const int32_t>> positions;
    std::vector<std::span<const float>> sums;  // cumulative attention; zeros if no scorer reads it
    int32_t window = 0;                        // number of tokens at the end that always stay
    const AttentionStats* stats = nullptr;     // statistics of the keys outside the window; null if nothing reads them

    int64_t n_keys(size_t head) const { return slots[head].length - window; }
};

/// Computes the scores of a layer's tokens, by KV head. Tokens of the window get the score infinity.
Result<std::vector<std::vector<float>>> score_layer(const SequenceParts& state, int32_t layer, const LayerKeys& keys);

/// Bytes of host memory for the statistics and scores of a layer with `n_slots` tokens, all KV heads together.
size_t scoring_bytes(const SequenceParts& state, int64_t n_slots);

}  // namespace cake
