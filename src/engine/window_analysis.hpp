#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/graph.hpp"
#include "method/attention_stats.hpp"
#include "model/architecture.hpp"

namespace cake {

/// One layer's keys and the queries that judge them.
struct WindowInput {
    const ggml_tensor* queries = nullptr;  // f32 [head_dim_k * n_head, rows]
    std::vector<int32_t> visible;          // for each of the first rows, how many keys that query sees
    const ggml_tensor* k = nullptr;        // [head_dim_k, n_slots]
    std::vector<int64_t> head_begin;       // the first slot of each KV head
    int64_t n_total = 0;                   // keys, window included
    int64_t n_keys = 0;                    // of those outside the window
};

/// The Attention Analyzer on the device: the queries' attention one head at a time, reduced to statistics.
Result<AttentionStats> analyze_window(GraphRunner& runner, const Hparams& hparams, const WindowInput& input,
                                      Dispersion dispersion);

}  // namespace cake
