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

/// How attention is computed: by our kernels, which need the host's memory, or as ggml does on any device.
struct AttentionMethod {
    bool kernels = false;
    int32_t n_threads = 1;
};

/// Those of a layer in the store.
std::vector<HeadSlots> held_slots(const KvStore& store, int32_t layer);

/// An attention node, [head_dim_v * n_head, n], and what to set when its graph is allocated.
struct Attended {
    ggml_tensor* node = nullptr;
    std::vector<ggml_tensor*> masks{};
    int64_t window = 0;
};

/// The slots that a sequence's queries attend to; they may differ in number from one KV head to the next.
struct AttendedSlots {
    const KvBuffer* buffer;
    std::vector<HeadSlots> heads;
};

/// Attention of `query`, [head_dim_k, n_head, n], in a layer of the model. The tokens are of several sequences, of each
/// equally many, one sequence after another: its last query sees all of its slots, or the layer's window, each one
/// before it one less.
Attended attend(Graph& graph, const AttentionMethod& method, const LayerGraph& nodes, int32_t layer, ggml_tensor* query,
                std::vector<AttendedSlots> sequences);
void set_masks(const Attended& attended);

/// Whether every KV head has equally many slots, as far apart as the next.
bool is_even(std::span<const HeadSlots> heads);

}  // namespace cake
