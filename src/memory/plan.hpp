#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include "cake/budget.hpp"
#include "cake/error.hpp"
#include "memory/kv_store.hpp"

namespace cake {

/// The layers of a model by kind of memory. Layers are always numbered as in the model. Those of no kind hold nothing:
/// they read K and V of earlier layers (Hparams::kv_layer()).
struct CacheLayout {
    KvShape sliced;                           // layers that attend to the whole text; the budget is divided among them
    KvShape sliding;                          // layers that keep only a sliding window; n_layer may be 0
    std::vector<int32_t> sliced_layers;       // [sliced.n_layer] ascending
    std::vector<int32_t> sliding_layers;      // [sliding.n_layer] ascending
    int32_t n_swa = 0;                        // size of the sliding window in tokens
    std::vector<int32_t> recurrent_layers{};  // ascending; they hold a state, instead of tokens or beside them
    int64_t n_recurrent_state = 0;            // f32 numbers in the state of a recurrent layer
    bool has_other_windows = false;  // the K and V of sliding layers have another shape than those of sliced layers
    bool stages_apart = false;       // later layers read K and V of both kinds, so both are staged at the same time

    bool is_sliding(int32_t layer) const { return std::ranges::binary_search(sliding_layers, layer); }
    bool has_state(int32_t layer) const { return std::ranges::binary_search(recurrent_layers, layer); }
    bool is_recurrent(int32_t layer) const { return has_state(layer) && !holds_tokens(layer); }
    bool holds_tokens(int32_t layer) const { return is_sliced(layer) || is_sliding(layer); }
    bool is_sliced(int32_t layer) const { return std::ranges::binary_search(sliced_layers, layer); }
    uint64_t recurrent_bytes() const {
        return sizeof(float) * static_cast<uint64_t>(n_recurrent_state) * recurrent_layers.size();
    }
    /// Capacity of a sliding layer in tokens: its window plus some room, so that old tokens are dropped in groups.
    /// `max_tokens`: max tokens of the whole text; 0: no limit.
    int32_t sliding_capacity(int64_t max_tokens) const;
};

/// Requirements for a cache.
struct CacheDemand {
    std::optional<Budget> budget{};  // not set: TokensPerLayer's default
    bool evicts = true;              // false: all tokens are kept
    int32_t window = 0;              // observation window in tokens, which every layer keeps
    int32_t evict_interval = 0;      // tokens decoded between two evictions; 0: chosen from the budget
    int64_t max_tokens = 0;          // max tokens of text and answers; 0: no limit
    int64_t n_ctx_train = 0;         // capacity of a cache that keeps everything and has no limit
};

/// Sizes of a cache that meets a demand.
struct CachePlan {
    int64_t tokens_per_layer = 0;  // the stated budget: mean over the sliced layers, including window and slack
    int32_t slack = 0;             // tokens that a sliced layer may gain between two evictions
    int32_t sliding_tokens = 0;    // capacity of a sliding layer
    LayerShares shares = LayerShares::equal;  // of the sliced layers: equal if nothing is evicted

    bool operator==(const CachePlan&) const = default;
};

/// Fails if the budget cannot hold the window in every layer.
Result<void> check_budget(const CacheLayout& layout, const CacheDemand& demand);

/// Computes the sizes for a first prompt of `n_prompt` tokens; allocates nothing. Fails if the budget cannot hold the
/// window in every layer, or is larger than any memory. The size of the sliding windows is not checked here but in
/// make_layout().
Result<CachePlan> plan_cache(const CacheLayout& layout, const CacheDemand& demand, int64_t n_prompt);

/// Bytes of the sliding layers, with `tokens` tokens in each.
uint64_t sliding_store_bytes(const LayerMemory& memory, const CacheLayout& layout, int32_t tokens);
/// Slots for each KV head of a staging layer that needs `n_rows`. On a device, there are some more, so that all KV
/// heads begin at the same distance from an aligned row.
int64_t staging_rows(ggml_backend_buffer_type_t type, int64_t n_rows);
/// Bytes of what a prefill stages on a device: one layer in full, or one of each kind, with `n_rows` slots for each KV
/// head.
uint64_t staging_bytes(ggml_backend_buffer_type_t type, const CacheLayout& layout, int64_t n_rows);
/// The same on all devices.
uint64_t staging_bytes(const LayerMemory& memory, const CacheLayout& layout, int64_t n_rows);
/// Bytes of all K/V memory of a plan.
uint64_t planned_bytes(const LayerMemory& memory, const CacheLayout& layout, const CachePlan& plan);

}  // namespace cake
