#pragma once

#include <span>
#include <vector>

#include "engine/attention.hpp"
#include "engine/sequence_parts.hpp"
#include "method/attention_stats.hpp"

namespace cake {

/// All tokens of one layer, the window's last, and what is known of them, by KV head.
struct LayerKeys {
    const KvBuffer& buffer;
    std::vector<HeadSlots> slots;
    std::vector<std::span<const int32_t>> positions;
    std::vector<std::span<const float>> sums;  // attention from all queries; of zeros where no scorer reads it
    int32_t window = 0;                        // tokens at the end that always stay
    const AttentionStats* stats = nullptr;     // of the keys outside the window; null where no scorer reads it

    int64_t n_keys(size_t head) const { return slots[head].length - window; }
};

/// The scores of a layer's tokens, by KV head: the scorer's, and infinity in the window.
Result<std::vector<std::vector<float>>> score_layer(const SequenceParts& state, int32_t layer, const LayerKeys& keys);

/// Host memory of the statistics and scores of a layer's tokens.
size_t scoring_bytes(const SequenceParts& state, int64_t n_slots);

}  // namespace cake
