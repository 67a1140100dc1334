#pragma once

#include <memory>

#include "cake/sequence.hpp"
#include "engine/engine_state.hpp"
#include "memory/plan.hpp"
#include "method/policy.hpp"

namespace cake {

/// What a sequence was made with: checked once, by make(), and constant from then on.
struct SequenceConfig {
    std::shared_ptr<const EngineState> engine;
    SequenceOptions options;
    Policy policy;
    CacheLayout layout;

    /// Checks every option. A budget that cannot work is refused here, before a long text is read.
    static Result<SequenceConfig> make(std::shared_ptr<const EngineState> engine, const SequenceOptions& options);

    const Hparams& hparams() const { return engine->hparams; }
    const Scorer& scorer() const { return *policy.scorer; }           // only if it evicts
    const Allocator& allocator() const { return *policy.allocator; }  // only if it evicts
    bool evicts() const { return policy.evicts(); }
    bool reads_window() const;   // it needs statistics of the window's attention
    bool reads_queries() const;  // it needs the window's queries
    bool sums_attention() const { return evicts() && scorer().reads.all_queries; }

    /// The layer's attention sinks, logits that take weight and give nothing, f32 [n_head]; null if it has none.
    ggml_tensor* sinks(int32_t layer) const { return engine->weights.layers[static_cast<size_t>(layer)].attn_sinks; }

    CacheDemand demand() const;
    /// What the budget comes to for a first prompt of `n_prompt` tokens.
    Result<CachePlan> plan(int64_t n_prompt) const { return plan_cache(layout, demand(), n_prompt); }
};

/// The K/V shape of all layers of a model.
Result<KvShape> make_kv_shape(const Hparams& hparams, const std::string& type_k, const std::string& type_v);

}  // namespace cake
