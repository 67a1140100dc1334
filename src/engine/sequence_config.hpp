#pragma once

#include <memory>

#include "cake/sequence.hpp"
#include "engine/engine_state.hpp"
#include "memory/plan.hpp"
#include "method/policy.hpp"

namespace cake {

/// The configuration of a sequence. make() checks it; after that it is constant.
struct SequenceConfig {
    std::shared_ptr<const EngineState> engine;
    SequenceOptions options;
    Policy policy;
    CacheLayout layout;

    /// Checks every option. An impossible budget is refused here, before a long prefill.
    static Result<SequenceConfig> make(std::shared_ptr<const EngineState> engine, const SequenceOptions& options);

    const Hparams& hparams() const { return engine->hparams; }
    const Scorer& scorer() const { return *policy.scorer; }           // requires evicts()
    const Allocator& allocator() const { return *policy.allocator; }  // requires evicts()
    bool evicts() const { return policy.evicts(); }
    bool reads_window() const;   // true if statistics of the window's attention are needed
    bool reads_queries() const;  // true if the window's queries are kept in a ring
    bool sums_attention() const { return evicts() && scorer().reads.all_queries; }

    /// The layer's attention sinks, f32 [n_head]: logits that take part in the softmax but have no value. Null if it
    /// has none.
    ggml_tensor* sinks(int32_t layer) const { return engine->weights.layers[static_cast<size_t>(layer)].attn_sinks; }

    CacheDemand demand() const;
    /// Computes the sizes of the cache from the budget, for a first prompt of `n_prompt` tokens.
    Result<CachePlan> plan(int64_t n_prompt) const { return plan_cache(layout, demand(), n_prompt); }
};

/// The K/V shape of all layers of a model.
Result<KvShape> make_kv_shape(const Hparams& hparams, const std::string& type_k, const std::string& type_v);

}  // namespace cake
