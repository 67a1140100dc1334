#include "engine/sequence_parts.hpp"

#include <fmt/format.h>

namespace cake {

SequenceParts::SequenceParts(SequenceConfig made, Accountant* whole) : config(std::move(made)), accountant(whole) {
    const auto n_layer = static_cast<size_t>(config.hparams().n_layer);
    progress.n_unread.resize(n_layer);
    report.layers.resize(n_layer);
}

Result<void> SequenceParts::open_cache(const CachePlan& plan) {
    const auto& h = config.hparams();
    const int64_t query_width = config.reads_queries() ? int64_t{h.head_dim_k} * h.n_head : 0;
    auto opened = SequenceCache::open(accountant, config.engine->compute.memory(), config.layout, plan, query_width,
                                      config.options.window);
    if (!opened) {
        return config.evicts()
                   ? std::unexpected(opened.error())
                   : fail(opened.error().code,
                          fmt::format("a full cache of {} tokens: {}; bound the context (-c), or use a policy that "
                                      "evicts",
                                      plan.tokens_per_layer, opened.error().message));
    }
    cache = std::move(*opened);
    return {};
}

Result<void> SequenceParts::copy_text(const SequenceParts& from, const CachePlan& plan) {
    if (auto opened = open_cache(plan); !opened) return opened;
    cache.copy(from.cache);
    report = from.report;
    progress = from.progress;
    return {};
}

Result<std::unique_ptr<SequenceParts>> make_sequence(std::shared_ptr<const EngineState> engine,
                                                     const SequenceOptions& options, Accountant* whole) {
    auto config = SequenceConfig::make(std::move(engine), options);
    if (!config) return std::unexpected(config.error());
    return std::make_unique<SequenceParts>(std::move(*config), whole);
}

}  // namespace cake
