#pragma once

#include <memory>

#include "cake/sequence.hpp"
#include "engine/engine_state.hpp"
#include "eviction/managed_cache.hpp"
#include "memory/plan.hpp"

namespace cake {

/// The configuration of a sequence. make() checks it; after that it is constant.
struct SequenceConfig : CacheRules {
    std::shared_ptr<const EngineState> engine;

    /// Checks every option. An impossible budget is refused here, before a long prefill.
    static Result<SequenceConfig> make(std::shared_ptr<const EngineState> engine, const SequenceOptions& options);

    const Hparams& hparams() const { return engine->hparams; }
    CacheDemand demand() const;
    /// Computes the sizes of the cache from the budget, for a first prompt of `n_prompt` tokens.
    Result<CachePlan> plan(int64_t n_prompt) const { return plan_cache(layout, demand(), n_prompt); }
};

/// The K/V shape of layers with these heads. Its number of layers is 0.
Result<KvShape> make_kv_shape(const Hparams& hparams, const KvHeads& heads, const std::string& type_k,
                              const std::string& type_v);

}  // namespace cake
