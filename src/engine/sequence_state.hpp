#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cache/accountant.hpp"
#include "cache/kv_store.hpp"
#include "cake/policy.hpp"
#include "cake/sequence.hpp"
#include "engine/engine_state.hpp"
#include "engine/graph.hpp"
#include "kernels/window_stats.hpp"
#include "method/scorer.hpp"

namespace cake {

struct Allocator;

/// The queries of the last W tokens of every layer, which judge what is kept, whatever segment they were read in.
struct QueryRing {
    AccountedBuffer buffer;
    ggml_context_ptr context;
    std::vector<ggml_tensor*> layers;  // f32 [head_dim_k * n_head, window]; none where nobody reads them
    int32_t n_filled = 0;
    int32_t next = 0;  // row that the next query goes to

    int64_t n_rows() const { return layers.empty() ? 1 : layers.front()->ne[1]; }
    /// Takes the rows of `n` further queries, at most as many as there are; the first goes to the row that was `next`.
    void push(int64_t n);
    /// Forgets the last `n`. What they had replaced does not come back.
    void pop(int64_t n);
    /// The last `n`, or all where there are fewer.
    std::vector<WindowQuery> newest(int64_t n) const;
};

/// Where a layer of the model has its K and V: among those that attend to the whole text, whose budgets are sliced, or
/// among those that attend to a sliding window and keep just that.
struct LayerPlace {
    bool windowed = false;
    int32_t index = 0;  // in the store of its kind
};

/// What a Sequence holds. Where nothing else is said, layers are counted in the order of the store.
struct SequenceState {
    std::shared_ptr<const EngineState> engine;
    SequenceOptions options;
    const Scorer* scorer = nullptr;  // both null where nothing is ever evicted
    const Allocator* allocator = nullptr;
    KvShape shape;                      // of the store
    KvShape windows_shape;              // of the windows; 0 layers where every layer attends to the whole text
    std::vector<LayerPlace> places;     // [n_layer of the model]
    std::vector<int32_t> model_layers;  // [n_layer] which layer of the model one of the store is

    Accountant accountant;  // before what it accounts
    KvStore store;
    KvStore windows;
    QueryRing ring;
    int64_t tokens_per_layer =
        0;              // the stated budget of the store; 0 until the first append, since it may depend on the prompt
    int32_t slack = 0;  // tokens that a layer may gain between two evictions

    /// Hidden states of a segment are kept as bf16, whose range is that of f32, where they would take more than this as
    /// f32. (f16 ends at 65,504, and the residual of Gemma 3 does not.)
    size_t most_hidden_f32_bytes = size_t{64} << 20U;

    std::unique_ptr<GraphRunner> decode_runner;

    int64_t n_tokens = 0;
    int64_t n_evicted_slots = 0;   // since the first token
    int64_t n_tokens_settled = 0;  // that others were evicted for, or whose attention is in the sums
    std::vector<LayerReport> layers;
    std::vector<std::vector<int32_t>> stages;  // budgets of layers 0..m after layer m joined, in the last segment
    std::vector<int32_t> n_unread;             // [n_layer] decoded queries whose attention the sums do not hold yet
    std::vector<float> logits;
    uint64_t layer_bytes = 0;
    FinishReason finish_reason = FinishReason::length;
    Error error;
    std::optional<Token> pending;  // was generated, and is read before anything else
    bool broken = false;           // an append or decode ended halfway
    std::string note;              // of the program, saved with it

    const Hparams& hparams() const { return engine->hparams; }
    bool evicts() const { return scorer != nullptr; }
    bool reads_window() const;   // statistics of the window's attention
    bool reads_queries() const;  // so the ring is kept
    bool sums_attention() const { return evicts() && scorer->reads.all_queries; }
    KvStore& store_of(const LayerPlace& place) { return place.windowed ? windows : store; }
    const KvStore& store_of(const LayerPlace& place) const { return place.windowed ? windows : store; }
    /// The layer's logits that take weight and give nothing, or null.
    ggml_tensor* sinks(int32_t layer) const;
};

/// Of all layers of the model.
Result<KvShape> make_kv_shape(const Hparams& hparams, const std::string& type_k, const std::string& type_v);

/// Checks every option. What the state holds is counted in `whole`, too, where there is one.
Result<std::unique_ptr<SequenceState>> make_sequence_state(std::shared_ptr<const EngineState> engine,
                                                           const SequenceOptions& options, Accountant* whole = nullptr);

/// What the budget comes to, once the length of the first prompt is known.
struct StorePlan {
    int64_t tokens_per_layer = 0;
    int32_t slack = 0;
    int32_t window_capacity = 0;  // tokens of a layer that keeps a window, those between two compactions included
};
Result<StorePlan> plan_store(const SequenceState& state, int64_t n_prompt);
/// Tokens that a layer which keeps a window has room for: some are gathered before they are dropped together.
int32_t window_capacity(const SequenceState& state);
/// K/V of a store with so many tokens in each of its layers.
uint64_t store_bytes(const SequenceState& state, const KvShape& shape, int64_t tokens_per_layer);
/// K/V that open_store() allocates.
uint64_t planned_bytes(const SequenceState& state, const StorePlan& plan);

/// Allocates store and ring.
Result<void> open_store(SequenceState& state, const StorePlan& plan);
/// Gives them back.
void close_store(SequenceState& state);

}  // namespace cake
