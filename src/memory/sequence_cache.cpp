#include "memory/sequence_cache.hpp"

#include <atomic>

namespace cake {

Result<SequenceCache> SequenceCache::open(Accountant& accountant, const LayerMemory& memory, const CacheLayout& layout,
                                          const CachePlan& plan, int64_t query_width, int64_t window) {
    SequenceCache cache;
    auto sliced =
        KvStore::create(accountant, memory, layout.sliced, plan.tokens_per_layer, layout.sliced_layers, plan.shares);
    if (!sliced) return std::unexpected(sliced.error());
    cache.sliced = std::move(*sliced);
    if (layout.sliding.n_layer > 0) {
        auto sliding = KvStore::create(accountant, memory, layout.sliding, plan.sliding_tokens, layout.sliding_layers,
                                       LayerShares::equal);
        if (!sliding) return std::unexpected(sliding.error());
        cache.sliding = std::move(*sliding);
        const auto n_runs = static_cast<size_t>(layout.sliding.n_layer) * static_cast<size_t>(layout.sliding.n_head_kv);
        cache.sliding.arrange(std::vector<int32_t>(n_runs, plan.sliding_tokens));
    }
    auto recurrent = RecurrentStates::create(accountant, memory, layout.recurrent_layers, layout.n_recurrent_state);
    if (!recurrent) return std::unexpected(recurrent.error());
    cache.recurrent = std::move(*recurrent);
    if (query_width > 0) {
        auto queries = QueryRing::create(accountant, memory, layout.sliced_layers, query_width, window);
        if (!queries) return std::unexpected(queries.error());
        cache.queries = std::move(*queries);
    }
    static std::atomic<uint64_t> n_opened = 0;
    cache.id = ++n_opened;
    cache.plan = plan;
    return cache;
}

size_t SequenceCache::bytes_on(ggml_backend_dev_t device) const {
    return sliced.bytes_on(device) + sliding.bytes_on(device) + recurrent.bytes_on(device);
}

void SequenceCache::copy(const SequenceCache& from) {
    std::vector<int32_t> lengths;
    for (const int32_t layer : sliced.layers())
        for (const Run& run : from.sliced.runs(layer)) lengths.push_back(run.length);
    sliced.arrange(lengths);  // the next prefill or eviction gives each run its share of the room that is left
    sliced.copy(from.sliced);
    if (!sliding.layers().empty()) sliding.copy(from.sliding);
    queries.copy(from.queries);
    recurrent.copy(from.recurrent);
}

void SequenceCache::truncate(int64_t n_tokens, int64_t n_dropped) {
    sliced.truncate(n_tokens);
    sliding.truncate(n_tokens);
    if (queries.is_kept()) queries.pop(n_dropped);
}

}  // namespace cake
