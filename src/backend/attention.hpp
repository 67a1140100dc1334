#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "backend/device_memory.hpp"
#include "backend/graph.hpp"
#include "kernels/rows.hpp"

namespace cake {

/// How attention is computed: by our kernels where K and V are in host memory, or by ggml, on any device.
struct AttentionMethod {
    bool kernels = false;
    int32_t n_threads = 1;

    /// True if our kernels compute what reads these rows of K or V.
    bool uses_kernels(const ggml_tensor* rows) const;
};

/// Parameters of a layer's attention.
struct AttentionTraits {
    float scale = 1;               // factor of the logits
    float softcap = 0;             // logits x become softcap * tanh(x / softcap); 0: no cap
    int64_t window = 0;            // tokens that a query sees, including its own; 0: all up to its own
    ggml_tensor* sinks = nullptr;  // f32 [n_head] logits that take part in the softmax but have no value, or null
};

/// A mask of attention that ggml computes.
struct AttentionMask {
    ggml_tensor* tensor;  // f16 [slots, n]
    int64_t n_foreign;    // first slots, which no query sees
};

class BatchedAttention;

/// An attention node, [head_dim_v * n_head, n], and its masks, to be set with set_masks() after its graph has been
/// allocated.
struct Attended {
    ggml_tensor* node = nullptr;
    std::vector<AttentionMask> masks{};
    int64_t window = 0;                // sliding window of the layer in tokens; 0: none
    BatchedAttention* work = nullptr;  // what our kernels compute, owned by the graph; null if ggml does
};

/// The slots that the queries of a sequence attend to; KV heads may have different numbers of them.
struct AttendedSlots {
    ggml_tensor* k;                // [head_dim_k, n_slots]
    ggml_tensor* v;                // [head_dim_v, n_slots]
    std::vector<HeadSlots> heads;  // [n_head_kv]
};

/// Attention of `query`, [head_dim_k, n_head, n], in one layer. The n tokens belong to `sequences`, one sequence after
/// another, with the same number of tokens each. The last query of a sequence sees all of its slots and each query
/// before it one slot fewer; the layer's sliding window, if it has one, limits this to the newest ones.
Attended attend(Graph& graph, const AttentionMethod& method, const AttentionTraits& traits, ggml_tensor* query,
                std::vector<AttendedSlots> sequences);
void set_masks(const Attended& attended);

/// Prepares a node whose graph was computed for another run, in which each sequence attends to other slots of the same
/// K and V. Returns false if the graph has to be built again: ggml's nodes are bound to their slots, and those of our
/// kernels to the size of their scratch memory.
bool set_slots(const Attended& attended, std::vector<std::vector<HeadSlots>> sequences);

/// True if a device writes K and V of these types and computes attention over them. `n_head`: query heads.
struct SlotTypes {
    ggml_type k;
    ggml_type v;
    int64_t head_dim_k;
    int64_t head_dim_v;
    int64_t n_head;
    int64_t n_head_kv;
};
bool supports_slots(ggml_backend_dev_t device, const SlotTypes& types);

/// The sinks of `n_head` query heads: f32 [n_head].
ggml_tensor* sinks_of(ggml_context* context, ggml_tensor* sinks, int64_t first_head, int64_t n_head);

/// The slots of a KV head for a view of `rows`: in the memory of a device, they begin at a multiple of kRowAlignment,
/// with slots before them that are not the head's.
struct AlignedSlots {
    int64_t begin = 0;
    int64_t length = 0;
    int64_t n_foreign = 0;
};
AlignedSlots aligned(const ggml_tensor* rows, const HeadSlots& slots);

/// True if all KV heads have the same number of slots and begin at equal distances.
bool is_even(std::span<const HeadSlots> heads);

}  // namespace cake
