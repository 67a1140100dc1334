#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/graph.hpp"
#include "kernels/rows.hpp"
#include "memory/kv_store.hpp"
#include "model/hparams.hpp"
#include "model/layer_graph.hpp"

namespace cake {

/// How attention is computed: by our kernels, which need K and V in host memory, or by ggml, on any device.
struct AttentionMethod {
    bool kernels = false;
    int32_t n_threads = 1;
};

/// Returns the slots of a layer in the store, [n_head_kv].
std::vector<HeadSlots> held_slots(const KvStore& store, int32_t layer);

/// An attention node, [head_dim_v * n_head, n], and its masks, to be set with set_masks() after its graph has been
/// allocated.
struct Attended {
    ggml_tensor* node = nullptr;
    std::vector<ggml_tensor*> masks{};
    int64_t window = 0;  // sliding window of the layer in tokens; 0: none
};

/// The slots that the queries of a sequence attend to; KV heads may have different numbers of them.
struct AttendedSlots {
    const KvBuffer* buffer;
    std::vector<HeadSlots> heads;
};

/// Attention of `query`, [head_dim_k, n_head, n], in a layer of the model. The n tokens belong to `sequences`, one
/// sequence after another, with the same number of tokens each. The last query of a sequence sees all of its slots and
/// each query before it one slot fewer; the layer's sliding window, if it has one, limits this to the newest ones.
Attended attend(Graph& graph, const AttentionMethod& method, const LayerGraph& nodes, int32_t layer, ggml_tensor* query,
                std::vector<AttendedSlots> sequences);
void set_masks(const Attended& attended);

/// True if all KV heads have the same number of slots and begin at equal distances.
bool is_even(std::span<const HeadSlots> heads);

}  // namespace cake
