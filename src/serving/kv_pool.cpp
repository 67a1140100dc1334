#include "serving/kv_pool.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "engine/replay_plan.hpp"
#include "method/allocator.hpp"

namespace cake {

namespace {

/// Maximum number of rows of a staging layer: the whole text, or one segment and the tokens that the store may hold;
/// and those of a replay.
int64_t staging_rows(const SequenceConfig& config, int64_t tokens_per_layer, int64_t segment, int64_t n_tokens) {
    if (!config.evicts()) return n_tokens;
    const int64_t n_replay = config.replay() == Replay::none ? 0 : kMaxReplayTokens;
    if (segment == 0) return n_tokens + n_replay;
    const auto& layout = config.layout;
    // One layer may hold almost the whole budget. If the allocator budgets heads separately, so may one KV head.
    int64_t max_held = tokens_per_layer * layout.sliced.n_layer;
    if (config.allocator().is_per_head()) max_held *= layout.sliced.n_head_kv;
    if (layout.sliding.n_layer > 0)
        max_held = std::max<int64_t>(max_held, layout.sliding_capacity(config.options.max_tokens));
    return std::min(n_tokens, segment + max_held) + n_replay;
}

uint64_t bytes_of_rows(const SequenceConfig& config, int64_t rows) {
    return cake::staging_bytes(config.engine->compute.memory(), config.layout, rows);
}

int64_t context_of(const EngineState& engine, int64_t stated) {
    constexpr int64_t kUnknown = 131072;  // used if the model file does not state the context length of its training
    int64_t n_ctx = stated > 0 ? stated : engine.hparams.n_ctx_train;
    if (n_ctx <= 0) n_ctx = kUnknown;
    const int64_t most = engine.hparams.max_positions();
    return most > 0 ? std::min(n_ctx, most) : n_ctx;
}

struct Sizes {
    SequenceOptions sequence;
    int64_t n_ctx = 0;
    uint64_t bytes_of_stores = 0;
    uint64_t bytes_of_staging = 0;

    uint64_t total() const { return bytes_of_stores + bytes_of_staging; }
};

/// Memory for `options.n_parallel` sequences of this configuration, with texts of up to `config.options.max_tokens`
/// tokens.
Result<Sizes> sizes_of(const SequenceConfig& config, const PoolOptions& options) {
    const auto plan = config.plan(1);
    if (!plan) return std::unexpected(plan.error());
    const int64_t n_ctx = config.options.max_tokens;
    // Each sequence may keep a snapshot of its states.
    const uint64_t store =
        planned_bytes(config.engine->compute.memory(), config.layout, *plan) + config.layout.recurrent_bytes();
    const bool adds_replay = options.may_replay && (!config.evicts() || config.replay() == Replay::none);
    const uint64_t staging =
        bytes_of_rows(config, staging_rows(config, plan->tokens_per_layer, options.segment, n_ctx) +
                                  (adds_replay ? kMaxReplayTokens : 0));
    constexpr uint64_t kMaxBytes = uint64_t{1} << 50U;
    if (store > kMaxBytes || staging > kMaxBytes)
        return fail("this much text needs more K/V memory than any machine has");
    return Sizes{.sequence = config.options,
                 .n_ctx = n_ctx,
                 .bytes_of_stores = store * static_cast<uint64_t>(options.n_parallel),
                 .bytes_of_staging = staging};
}

/// Sizes of the largest sequences that fit into `kv_bytes`: with the maximum budget in tokens per layer or, if nothing
/// is evicted, with the maximum context.
Result<Sizes> largest_within(SequenceConfig config, const PoolOptions& options, uint64_t kv_bytes) {
    const bool evicts = config.evicts();
    const int64_t n_ctx = config.options.max_tokens;
    const auto sized = [&](int64_t tokens) {
        if (evicts)
            config.options.budget = TokensPerLayer{tokens};
        else
            config.options.max_tokens = tokens;
        return sizes_of(config, options);
    };
    constexpr int64_t kMinContext = 256;
    const int64_t window = options.sequence.window;
    // The slack takes at most half of the budget that the window leaves.
    const int64_t min_tokens = evicts ? window + std::max<int64_t>(window, 2 * int64_t{options.sequence.evict_interval})
                                      : std::min(kMinContext, n_ctx);
    auto best = sized(min_tokens);
    if (!best) return best;
    if (best->total() > kv_bytes) {
        return fail(fmt::format(
            "K/V memory of {} bytes is too little: {} for what is held in full of a text of {} tokens, and {} for {} "
            "sequences of {} tokens a layer{}, add up to {} bytes; use a shorter context (-c), --segment or fewer "
            "sequences",
            kv_bytes, best->bytes_of_staging, best->n_ctx, best->bytes_of_stores, options.n_parallel, min_tokens,
            config.layout.recurrent_layers.empty() ? "" : " with the states of recurrent layers", best->total()));
    }
    int64_t low = min_tokens;
    int64_t high = evicts ? std::max(min_tokens, n_ctx) + 1 : n_ctx + 1;
    while (high - low > 1) {
        const int64_t middle = low + (high - low) / 2;
        auto tried = sized(middle);
        if (tried && tried->total() <= kv_bytes) {
            best = std::move(tried);
            low = middle;
        } else {
            high = middle;
        }
    }
    return best;
}

}  // namespace

Result<KvPool> KvPool::create(const std::shared_ptr<const EngineState>& engine, const PoolOptions& options) {
    auto sequence = options.sequence;
    sequence.max_tokens = context_of(*engine, options.n_ctx);
    auto config = SequenceConfig::make(engine, sequence);
    if (!config) return std::unexpected(config.error());
    if (config->evicts() && !options.kv_bytes && !options.sequence.budget) config->options.budget = TokensPerLayer{};
    auto sizes =
        options.kv_bytes ? largest_within(std::move(*config), options, *options.kv_bytes) : sizes_of(*config, options);
    if (!sizes) return std::unexpected(sizes.error());
    KvPool pool;
    pool.sequence_ = std::move(sizes->sequence);
    pool.n_ctx_ = sizes->n_ctx;
    pool.segment_ = options.segment;
    pool.bytes_of_stores_ = sizes->bytes_of_stores;
    pool.bytes_of_staging_ = sizes->bytes_of_staging;
    return pool;
}

uint64_t KvPool::staging_bytes(const SequenceConfig& config, int64_t tokens_per_layer, int64_t n_tokens) const {
    return bytes_of_rows(config, staging_rows(config, tokens_per_layer, segment_, n_tokens));
}

int64_t KvPool::tokens_of_full_cache(const SequenceConfig& config, int32_t n_sequences) const {
    const auto& layout = config.layout;
    uint64_t share = bytes_of_stores_ / static_cast<uint64_t>(n_sequences);
    share -= std::min(share, sliding_store_bytes(config.engine->compute.memory(), layout,
                                                 layout.sliding_capacity(config.options.max_tokens)));
    share -= std::min(share, 2 * layout.recurrent_bytes());  // with a snapshot
    const uint64_t per_token = layout.sliced.token_bytes() * static_cast<uint64_t>(layout.sliced.n_layer);
    return static_cast<int64_t>(share / per_token);
}

}  // namespace cake
