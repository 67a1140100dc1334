#include "memory/plan.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <string>

namespace cake {

namespace {

uint64_t bytes_per_token(const KvShape& shape) {
    return static_cast<uint64_t>(shape.n_layer) * shape.token_bytes();
}

uint64_t sliding_bytes(const CacheLayout& layout, int32_t tokens) {
    return bytes_per_token(layout.sliding) * static_cast<uint64_t>(tokens);
}

struct StatedTokens {
    int64_t tokens = 0;  // tokens per layer
    std::string stated;  // the budget in the user's terms, for errors
};

StatedTokens stated_tokens(const CacheLayout& layout, const CacheDemand& demand, int64_t n_prompt) {
    const Budget budget = demand.budget.value_or(TokensPerLayer{});
    if (const auto* per_layer = std::get_if<TokensPerLayer>(&budget))
        return {.tokens = per_layer->tokens, .stated = fmt::format("{} tokens a layer", per_layer->tokens)};
    if (const auto* bytes = std::get_if<KvBytes>(&budget)) {
        const uint64_t fixed =
            sliding_bytes(layout, layout.sliding_capacity(demand.max_tokens)) + layout.recurrent_bytes();
        const uint64_t left = bytes->bytes - std::min(bytes->bytes, fixed);
        return {.tokens = static_cast<int64_t>(left / bytes_per_token(layout.sliced)),
                .stated = fmt::format("{} bytes", bytes->bytes)};
    }
    // A ratio of a short prompt may be less than the window, which always stays.
    const double share = std::get<KvRatio>(budget).ratio * static_cast<double>(n_prompt);
    return {.tokens = std::max<int64_t>(static_cast<int64_t>(share), demand.window), .stated = {}};
}

/// A remark for errors that state a number of bytes.
std::string states_text(uint64_t bytes) {
    return bytes == 0 ? "" : fmt::format(" ({} of them for the states of the recurrent layers)", bytes);
}

/// The stated budget in tokens per layer.
Result<int64_t> budget_tokens(const CacheLayout& layout, const CacheDemand& demand, int64_t n_prompt) {
    if (!demand.evicts) return demand.max_tokens > 0 ? demand.max_tokens : std::max(n_prompt, demand.n_ctx_train);
    const auto [tokens, stated] = stated_tokens(layout, demand, n_prompt);
    if (tokens >= demand.window) return tokens;
    const uint64_t min_bytes = sliding_bytes(layout, layout.sliding_capacity(demand.max_tokens)) +
                               layout.recurrent_bytes() +
                               bytes_per_token(layout.sliced) * static_cast<uint64_t>(demand.window);
    return fail(fmt::format(
        "a budget of {} cannot hold the window of {} tokens in {} layers: use at least {} tokens a layer, {} bytes{}, "
        "or a smaller --window",
        stated, demand.window, layout.sliced.n_layer, demand.window, min_bytes, states_text(layout.recurrent_bytes())));
}

/// The slack of decoding. It must leave tokens outside the window that are kept by score.
Result<int32_t> decode_slack(int32_t interval, int64_t free_tokens) {
    const int64_t max_interval = std::max<int64_t>(1, free_tokens / 2);
    if (interval > max_interval) {
        return fail(
            fmt::format("an evict interval of {} tokens takes more than half of the budget outside the window: "
                        "use at most {}, or a larger budget",
                        interval, max_interval));
    }
    return static_cast<int32_t>(interval > 0 ? interval : std::clamp<int64_t>(free_tokens / 16, 1, 32));
}

bool is_larger_than_any_memory(const CacheLayout& layout, int64_t tokens_per_layer, int32_t sliding_tokens) {
    // Positions and lengths are 32-bit integers.
    constexpr int64_t kMaxTokens = std::numeric_limits<int32_t>::max() / 2;
    constexpr uint64_t kMaxBytes = static_cast<uint64_t>(std::numeric_limits<int64_t>::max()) / 2;
    return tokens_per_layer > kMaxTokens || sliding_bytes(layout, sliding_tokens) > kMaxBytes ||
           static_cast<uint64_t>(tokens_per_layer) > kMaxBytes / bytes_per_token(layout.sliced);
}

}  // namespace

int32_t CacheLayout::sliding_capacity(int64_t max_tokens) const {
    const int64_t limit = max_tokens > 0 ? max_tokens : std::numeric_limits<int32_t>::max();
    return static_cast<int32_t>(std::min<int64_t>(n_swa + std::max<int64_t>(n_swa / 16, 1), limit));
}

Result<void> check_budget(const CacheLayout& layout, const CacheDemand& demand) {
    if (auto tokens = budget_tokens(layout, demand, 1); !tokens) return std::unexpected(tokens.error());
    return {};
}

Result<CachePlan> plan_cache(const CacheLayout& layout, const CacheDemand& demand, int64_t n_prompt) {
    const auto tokens = budget_tokens(layout, demand, n_prompt);
    if (!tokens) return std::unexpected(tokens.error());
    CachePlan plan{.tokens_per_layer = *tokens,
                   .sliding_tokens = layout.sliding_capacity(demand.evicts ? demand.max_tokens : *tokens)};
    if (is_larger_than_any_memory(layout, plan.tokens_per_layer, plan.sliding_tokens)) {
        return demand.evicts
                   ? fail(fmt::format("a budget of {} tokens a layer is larger than any memory: use a smaller one",
                                      *tokens))
                   : fail(fmt::format("a full cache of {} tokens is larger than any memory: bound the context (-c), or "
                                      "use a policy that evicts",
                                      *tokens));
    }
    if (demand.evicts) {
        const auto slack = decode_slack(demand.evict_interval, *tokens - demand.window);
        if (!slack) return std::unexpected(slack.error());
        plan.slack = *slack;
        plan.shares = LayerShares::any;
    }
    return plan;
}

namespace {

uint64_t store_bytes(const LayerMemory& memory, const KvShape& shape, std::span<const int32_t> layers,
                     int64_t tokens_per_layer, LayerShares shares) {
    uint64_t n_bytes = 0;
    for (size_t i = 0; i < memory.n_parts(); i++) {
        const int64_t n_layer = part_layers(shape, memory.n_layers(i, layers), shares);
        if (n_layer > 0)
            n_bytes += kv_buffer_bytes(memory.part(i).buffer_type, shape, tokens_per_layer * n_layer * shape.n_head_kv);
    }
    return n_bytes;
}

}  // namespace

uint64_t sliding_store_bytes(const LayerMemory& memory, const CacheLayout& layout, int32_t tokens) {
    return store_bytes(memory, layout.sliding, layout.sliding_layers, tokens, LayerShares::equal);
}

int64_t staging_rows(ggml_backend_buffer_type_t type, int64_t n_rows) {
    return ggml_backend_buft_is_host(type) ? n_rows : GGML_PAD(n_rows, kRowAlignment);
}

uint64_t staging_bytes(ggml_backend_buffer_type_t type, const CacheLayout& layout, int64_t n_rows) {
    const auto of = [&](const KvShape& shape) {
        return kv_buffer_bytes(type, shape, staging_rows(type, n_rows) * shape.n_head_kv);
    };
    if (layout.stages_apart) return of(layout.sliced) + of(layout.sliding);
    return layout.has_other_windows ? std::max(of(layout.sliced), of(layout.sliding)) : of(layout.sliced);
}

uint64_t staging_bytes(const LayerMemory& memory, const CacheLayout& layout, int64_t n_rows) {
    uint64_t n_bytes = 0;
    for (size_t i = 0; i < memory.n_parts(); i++) n_bytes += staging_bytes(memory.part(i).buffer_type, layout, n_rows);
    return n_bytes;
}

uint64_t planned_bytes(const LayerMemory& memory, const CacheLayout& layout, const CachePlan& plan) {
    return store_bytes(memory, layout.sliced, layout.sliced_layers, plan.tokens_per_layer, plan.shares) +
           sliding_store_bytes(memory, layout, plan.sliding_tokens) + layout.recurrent_bytes();
}

}  // namespace cake
