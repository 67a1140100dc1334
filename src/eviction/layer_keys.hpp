#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/rows.hpp"
#include "memory/kv_store.hpp"
#include "method/attention_stats.hpp"

namespace cake {

/// The queries that are expected to follow a text, after RoPE, for each KV head: see HeadKeys.
struct ExpectedQueries {
    std::vector<std::vector<float>> means;        // [n_head_kv]
    std::vector<std::vector<float>> covariances;  // [n_head_kv]
};

/// All tokens of one layer and the inputs of a scorer for them, by KV head. The tokens of the window come last.
struct LayerKeys {
    const KvBuffer& buffer;
    std::vector<HeadSlots> slots;
    std::vector<std::span<const int32_t>> positions;
    std::vector<std::span<const float>> sums;  // cumulative attention; zeros if no scorer reads it
    /// Scores of the first tokens, which were kept from earlier segments; the others are new.
    std::vector<std::span<const float>> kept_scores{};
    int32_t window = 0;                     // number of tokens at the end that always stay
    const AttentionStats* stats = nullptr;  // statistics of the keys outside the window; null if nothing reads them

    const ExpectedQueries* expected = nullptr;  // null if nothing reads them
    /// OutputNorm::l1_of_group of the tokens outside the window, [n_head_kv], if they have been computed already.
    const std::vector<std::vector<float>>* output_norms = nullptr;
    // Importance of the tokens in a replay of the text, [n_head_kv]; empty if there was none.
    std::vector<std::span<const float>> replay{};
    std::vector<std::span<const float>> replay_output{};

    int64_t n_keys(size_t head) const { return slots[head].length - window; }
    /// The slots outside the window.
    std::vector<HeadSlots> outside() const;
    /// Makes the last `n` tokens the window, or fewer if a KV head holds fewer.
    void set_window(int32_t n);
};

/// Returns the slots of a layer in the store, [n_head_kv].
std::vector<HeadSlots> held_slots(const KvStore& store, int32_t layer);

/// Returns the tokens of a layer in the store, of which the last `window` always stay, without statistics.
LayerKeys held_keys(const KvStore& store, int32_t layer, int32_t window);

}  // namespace cake
