#include "engine/position_attention.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "eviction/analyzer.hpp"

namespace cake {

namespace {

/// For each position that a layer holds, raises `by_position` to the maximum over the layer's heads of their mean
/// attention to it.
Result<void> take_layer(GraphRunner& runner, const SequenceParts& state, int32_t layer,
                        const std::vector<WindowQuery>& queries, std::vector<float>& by_position) {
    const AttentionInput input{.queries = state.cache.queries.layer(layer),
                               .window = queries,
                               .k = state.cache.sliced.buffer(layer).k(),
                               .heads = held_slots(state.cache.sliced, layer)};
    std::vector<int64_t> n_keys;
    for (const auto& head : input.heads) n_keys.push_back(head.length);
    const auto stats = attention_stats(runner, state.config.attention, state.config.traits_of(layer), input, n_keys);
    if (!stats) return std::unexpected(stats.error());
    for (size_t head = 0; head < input.heads.size(); head++) {
        const auto positions = state.cache.sliced.positions(layer, static_cast<int32_t>(head));
        const auto& mean = stats->heads[head].mean;
        for (size_t i = 0; i < mean.size(); i++) {
            float& most = by_position[static_cast<size_t>(positions[i % positions.size()])];
            most = std::max(most, mean[i]);
        }
    }
    return {};
}

}  // namespace

Result<std::vector<float>> attention_by_position(SequenceParts& state, int64_t n_queries) {
    if (n_queries < 1 || n_queries > state.config.options.window) {
        return fail(fmt::format("the attention of the last {} tokens is not known: ask for 1 to {}", n_queries,
                                state.config.options.window));
    }
    if (!state.config.reads_queries()) return fail("no queries are kept: set SequenceOptions::keep_queries");
    const auto queries = newest_queries(state.cache.queries, n_queries);
    if (state.status.is_broken() || queries.empty())
        return fail("no text has been read yet, so its attention is not known");
    std::vector<float> by_position(static_cast<size_t>(state.progress.n_tokens));
    GraphRunner runner(state.config.engine->compute, state.accountant);
    // Use only the upper half of the layers, because lower layers attend to neighbouring or similar tokens. Use the
    // maximum over heads, because few heads attend by content and a mean over all heads would hide them.
    const auto layers = state.cache.sliced.layers();
    for (const int32_t layer : layers.subspan(layers.size() / 2)) {
        if (auto taken = take_layer(runner, state, layer, queries, by_position); !taken)
            return std::unexpected(taken.error());
    }
    return by_position;
}

}  // namespace cake
