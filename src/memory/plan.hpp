#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include "cake/budget.hpp"
#include "cake/error.hpp"
#include "memory/kv_buffer.hpp"

namespace cake {

/// The layers of a model by kind of memory. Layers are numbered as in the model, here and everywhere else.
struct CacheLayout {
    KvShape sliced;                      // layers that attend to the whole text: their slots are sliced from the budget
    KvShape sliding;                     // layers that attend to a sliding window and keep just that; n_layer may be 0
    std::vector<int32_t> sliced_layers;  // [sliced.n_layer] ascending
    std::vector<int32_t> sliding_layers;  // [sliding.n_layer] ascending
    int32_t n_swa = 0;                    // tokens of a sliding window

    bool is_sliding(int32_t layer) const { return std::ranges::binary_search(sliding_layers, layer); }
    /// Capacity of a sliding layer in tokens: a few more than its window are gathered before they are dropped together.
    /// `max_tokens`: of the whole text; 0: no limit.
    int32_t sliding_capacity(int64_t max_tokens) const;
};

/// What a cache has to provide.
struct CacheDemand {
    std::optional<Budget> budget{};  // not set: TokensPerLayer's default
    bool evicts = true;              // false: it keeps everything
    int32_t window = 0;              // observation window in tokens, which every layer keeps
    int32_t evict_interval = 0;      // tokens decoded between two evictions; 0: chosen from the budget
    int64_t max_tokens = 0;          // of the text and its answer; 0: no limit
    int64_t n_ctx_train = 0;         // capacity of a cache that keeps everything and has no limit
};

/// What a demand comes to.
struct CachePlan {
    int64_t tokens_per_layer = 0;  // mean over the sliced layers, all of the stated budget
    int32_t slack = 0;             // tokens that a sliced layer may gain between two evictions
    int32_t sliding_tokens = 0;    // capacity of a sliding layer

    bool operator==(const CachePlan&) const = default;
};

/// Whether the budget can hold the window in every layer.
Result<void> check_budget(const CacheLayout& layout, const CacheDemand& demand);

/// Works out tokens and slack for a first prompt of `n_prompt` tokens; allocates nothing. Fails if the budget cannot
/// hold the window in every layer, or is larger than any memory. The sliding windows of `layout` are not: make_layout()
/// refuses those.
Result<CachePlan> plan_cache(const CacheLayout& layout, const CacheDemand& demand, int64_t n_prompt);

/// Bytes of a store with `tokens_per_layer` tokens in each layer of `shape`.
uint64_t store_bytes(ggml_backend_buffer_type_t type, const KvShape& shape, int64_t tokens_per_layer);
/// Bytes of all K/V memory of a plan.
uint64_t planned_bytes(ggml_backend_buffer_type_t type, const CacheLayout& layout, const CachePlan& plan);

}  // namespace cake
