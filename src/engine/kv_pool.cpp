#include "engine/kv_pool.hpp"

#include <algorithm>
#include <format>

#include "method/allocator.hpp"

namespace cake {

namespace {

/// The rows of a layer in flight, at most: a text as a whole, or a segment of it over all that the store may hold.
int64_t flight_rows(const SequenceState& state, int64_t tokens_per_layer, int64_t segment, int64_t n_tokens) {
    if (segment == 0 || !state.evicts()) return n_tokens;
    // One layer, or where the allocator tells them apart one head of it, may hold what the others do not.
    int64_t most_held = tokens_per_layer * state.shape.n_layer;
    if (state.allocator->heads == HeadSplit::adaptive) most_held *= state.shape.n_head_kv;
    if (state.windows_shape.n_layer > 0) most_held = std::max<int64_t>(most_held, window_capacity(state));
    return std::min(n_tokens, segment + most_held);
}

uint64_t bytes_of_rows(const SequenceState& state, int64_t rows) {
    return kv_buffer_bytes(state.engine->compute.buffer_type(), state.shape, rows * state.shape.n_head_kv);
}

int64_t context_of(const EngineState& engine, int64_t stated) {
    constexpr int64_t kUnknown = 131072;  // where the file does not say what the model was trained with
    int64_t n_ctx = stated > 0 ? stated : engine.hparams.n_ctx_train;
    if (n_ctx <= 0) n_ctx = kUnknown;
    const int64_t most = engine.hparams.most_positions();
    return most > 0 ? std::min(n_ctx, most) : n_ctx;
}

struct Sizes {
    SequenceOptions sequence;
    int64_t n_ctx = 0;
    uint64_t bytes_of_stores = 0;
    uint64_t bytes_in_flight = 0;

    uint64_t total() const { return bytes_of_stores + bytes_in_flight; }
};

/// What all takes for sequences of these options and texts of up to `n_ctx` tokens.
Result<Sizes> sizes_of(const std::shared_ptr<const EngineState>& engine, const PoolOptions& options,
                       SequenceOptions sequence, int64_t n_ctx) {
    sequence.max_tokens = n_ctx;
    const auto state = make_sequence_state(engine, sequence);
    if (!state) return std::unexpected(state.error());
    const auto plan = plan_store(**state, 1);
    if (!plan) return std::unexpected(plan.error());
    const uint64_t store = planned_bytes(**state, *plan);
    const uint64_t flight =
        bytes_of_rows(**state, flight_rows(**state, plan->tokens_per_layer, options.segment, n_ctx));
    constexpr uint64_t kMost = uint64_t{1} << 50U;
    if (store > kMost || flight > kMost) return fail("K/V memory for so much text is more than any machine has");
    return Sizes{.sequence = std::move(sequence),
                 .n_ctx = n_ctx,
                 .bytes_of_stores = store * static_cast<uint64_t>(options.n_parallel),
                 .bytes_in_flight = flight};
}

/// The largest sequences whose memory is no more than what is stated: of more tokens a layer, or where nothing is
/// evicted, of more context.
Result<Sizes> largest_within(const std::shared_ptr<const EngineState>& engine, const PoolOptions& options,
                             uint64_t kv_bytes, int64_t n_ctx, bool evicts) {
    const auto sized = [&](int64_t tokens) {
        auto sequence = options.sequence;
        if (evicts) sequence.budget = TokensPerLayer{tokens};
        return sizes_of(engine, options, sequence, evicts ? n_ctx : tokens);
    };
    constexpr int64_t kLeastContext = 256;
    const int64_t window = options.sequence.window;
    // An interval takes at most half of what the window leaves.
    const int64_t least = evicts ? window + std::max<int64_t>(window, 2 * int64_t{options.sequence.evict_interval})
                                 : std::min(kLeastContext, n_ctx);
    auto best = sized(least);
    if (!best) return best;
    if (best->total() > kv_bytes) {
        return fail(std::format(
            "K/V memory of {} bytes is too little: {} for the one layer in full of a text of {} tokens, and {} for {} "
            "sequences of {} tokens a layer, are {} bytes; a shorter context (-c), --segment or fewer sequences need "
            "less",
            kv_bytes, best->bytes_in_flight, best->n_ctx, best->bytes_of_stores, options.n_parallel, least,
            best->total()));
    }
    int64_t low = least;
    int64_t high = evicts ? std::max(least, n_ctx) + 1 : n_ctx + 1;
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
    const int64_t n_ctx = context_of(*engine, options.n_ctx);
    auto trial = options.sequence;
    trial.max_tokens = n_ctx;
    const auto state = make_sequence_state(engine, trial);
    if (!state) return std::unexpected(state.error());
    const bool evicts = (*state)->evicts();
    if (evicts && !options.kv_bytes && !options.sequence.budget) {
        auto usual = options;
        usual.sequence.budget = TokensPerLayer{};
        return create(engine, usual);
    }
    auto sizes = options.kv_bytes ? largest_within(engine, options, *options.kv_bytes, n_ctx, evicts)
                                  : sizes_of(engine, options, options.sequence, n_ctx);
    if (!sizes) return std::unexpected(sizes.error());
    KvPool pool;
    pool.sequence_ = std::move(sizes->sequence);
    pool.n_ctx_ = sizes->n_ctx;
    pool.segment_ = options.segment;
    pool.bytes_of_stores_ = sizes->bytes_of_stores;
    pool.bytes_in_flight_ = sizes->bytes_in_flight;
    return pool;
}

uint64_t KvPool::flight_bytes(const SequenceState& state, int64_t tokens_per_layer, int64_t n_tokens) const {
    return bytes_of_rows(state, flight_rows(state, tokens_per_layer, segment_, n_tokens));
}

int64_t KvPool::tokens_of_full_cache(const SequenceState& state, int32_t n_sequences) const {
    uint64_t share = bytes_of_stores_ / static_cast<uint64_t>(n_sequences);
    share -= std::min(share, store_bytes(state, state.windows_shape, window_capacity(state)));
    const uint64_t per_token = state.shape.token_bytes() * static_cast<uint64_t>(state.shape.n_layer);
    return static_cast<int64_t>(share / per_token);
}

}  // namespace cake
