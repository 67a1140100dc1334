#include "engine/position_attention.hpp"

#include <algorithm>
#include <format>

#include "engine/analysis.hpp"
#include "engine/attention.hpp"

namespace cake {

namespace {

/// Raises the positions that a layer holds to the attention of its heads.
Result<void> take_layer(GraphRunner& runner, const SequenceState& state, int32_t layer,
                        const std::vector<WindowQuery>& queries, std::vector<float>& by_position) {
    const AttentionInput input{.queries = state.ring.layers[static_cast<size_t>(layer)],
                               .window = queries,
                               .k = state.store.buffer().k(),
                               .heads = held_slots(state.store, layer),
                               .sinks = state.sinks(layer)};
    std::vector<int64_t> n_keys;
    for (const auto& head : input.heads) n_keys.push_back(head.length);
    const auto stats = attention_stats(runner, *state.engine, input, n_keys);
    if (!stats) return std::unexpected(stats.error());
    for (size_t head = 0; head < input.heads.size(); head++) {
        const auto positions = state.store.positions(layer, static_cast<int32_t>(head));
        const auto& mean = stats->heads[head].mean;
        for (size_t i = 0; i < mean.size(); i++) {
            float& most = by_position[static_cast<size_t>(positions[i % positions.size()])];
            most = std::max(most, mean[i]);
        }
    }
    return {};
}

}  // namespace

Result<std::vector<float>> attention_by_position(SequenceState& state, int64_t n_queries) {
    if (n_queries < 1 || n_queries > state.options.window) {
        return fail(std::format("the attention of the last {} tokens is not known: that of 1 to {} is", n_queries,
                                state.options.window));
    }
    if (!state.reads_queries()) return fail("no queries are kept: set SequenceOptions::keep_queries");
    const auto queries = state.ring.newest(n_queries);
    if (state.broken || queries.empty()) return fail("no text has been read whose attention could be told");
    std::vector<float> by_position(static_cast<size_t>(state.n_tokens));
    GraphRunner runner(state.engine->compute, state.accountant);
    // Lower layers attend to what is near or alike; few heads look for content, and a mean over all would hide them.
    for (int32_t layer = state.shape.n_layer / 2; layer < state.shape.n_layer; layer++) {
        if (auto taken = take_layer(runner, state, layer, queries, by_position); !taken)
            return std::unexpected(taken.error());
    }
    return by_position;
}

}  // namespace cake
