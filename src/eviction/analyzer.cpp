#include "eviction/analyzer.hpp"

#include <algorithm>

#include "backend/kernel_nodes.hpp"
#include "eviction/graph_stats.hpp"

namespace cake {

namespace {

Result<AttentionStats> stats_of_kernels(GraphRunner& runner, int32_t n_threads, const AttentionTraits& traits,
                                        const AttentionInput& input, std::vector<int64_t> n_keys) {
    AttentionStats stats(input.n_head(), n_keys);
    Graph graph(8);
    const auto node = window_stats_node(graph, n_threads, input.queries, input.k, traits.sinks,
                                        {.n_head = input.n_head(),
                                         .dim_k = static_cast<int32_t>(input.k->ne[0]),
                                         .queries = input.window,
                                         .newest = newest_of(input.window),
                                         .heads = input.heads,
                                         .n_keys = std::move(n_keys),
                                         .scale = traits.scale,
                                         .softcap = traits.softcap});
    if (auto allocated = runner.allocate(graph); !allocated) return std::unexpected(allocated.error());
    if (auto computed = runner.compute(graph); !computed) return std::unexpected(computed.error());
    for (size_t head = 0; head < stats.heads.size(); head++) {
        auto& of_head = stats.heads[head];
        size_t offset = node.stats.result_begin(head) * sizeof(float);
        for (auto* values : {&of_head.mean, &of_head.variance, &of_head.last}) {
            ggml_backend_tensor_get(node.result, values->data(), offset, values->size() * sizeof(float));
            offset += values->size() * sizeof(float);
        }
    }
    stats.dispersion = node.stats.dispersion();
    stats.shift = node.stats.shift();
    return stats;
}

}  // namespace

size_t newest_of(std::span<const WindowQuery> window) {
    return static_cast<size_t>(std::ranges::min_element(window, {}, &WindowQuery::unseen) - window.begin());
}

Result<AttentionStats> attention_stats(GraphRunner& runner, const AttentionMethod& method,
                                       const AttentionTraits& traits, const AttentionInput& input,
                                       std::vector<int64_t> n_keys) {
    return method.uses_kernels(input.k) ? stats_of_kernels(runner, method.n_threads, traits, input, std::move(n_keys))
                                        : stats_of_graph(runner, traits, input, n_keys);
}

std::vector<WindowQuery> newest_queries(const QueryRing& ring, int64_t n) {
    std::vector<WindowQuery> queries;
    for (int64_t row = 0; row < ring.n_rows(); row++) {
        const int64_t age = ring.age(row);
        if (age < std::min<int64_t>(n, ring.n_filled())) queries.push_back({.row = row, .unseen = age});
    }
    return queries;
}

Result<AttentionStats> analyse_window(GraphRunner& runner, const ManagedCache& managed, int32_t layer,
                                      const LayerKeys& keys) {
    const auto& rules = managed.rules;
    const AttentionInput input{.queries = managed.cache.queries.layer(layer),
                               .window = newest_queries(managed.cache.queries, rules.options.window),
                               .k = keys.buffer.k(),
                               .heads = keys.slots};
    std::vector<int64_t> n_keys;
    for (size_t head = 0; head < keys.slots.size(); head++) n_keys.push_back(keys.n_keys(head));
    return attention_stats(runner, rules.attention, rules.traits_of(layer), input, std::move(n_keys));
}

Result<void> add_attention(GraphRunner& runner, const AttentionMethod& method, const AttentionTraits& traits,
                           const AttentionInput& input, std::span<const std::span<float>> sums) {
    // Queries are processed in batches, because ggml's path stores all their attention weights.
    constexpr int64_t kMaxWeights = int64_t{1} << 22;
    const int64_t longest = std::ranges::max(input.heads, {}, &HeadSlots::length).length;
    const auto step = static_cast<size_t>(std::max<int64_t>(1, kMaxWeights / longest));
    std::vector<int64_t> n_keys;
    for (const auto& head : input.heads) n_keys.push_back(head.length);
    for (size_t begin = 0; begin < input.window.size(); begin += step) {
        const auto n_queries = std::min(step, input.window.size() - begin);
        AttentionInput part = input;
        part.window = {input.window.begin() + static_cast<ptrdiff_t>(begin),
                       input.window.begin() + static_cast<ptrdiff_t>(begin + n_queries)};
        const auto stats = attention_stats(runner, method, traits, part, n_keys);
        if (!stats) return std::unexpected(stats.error());
        const float factor = static_cast<float>(n_queries) / static_cast<float>(input.n_group());
        for (size_t head = 0; head < sums.size(); head++) {
            const auto& mean = stats->heads[head].mean;
            const auto n = static_cast<size_t>(n_keys[head]);
            for (size_t i = 0; i < mean.size(); i++) sums[head][i % n] += mean[i] * factor;
        }
    }
    return {};
}

Result<void> for_each_attention(GraphRunner& runner, const AttentionTraits& traits, const AttentionInput& input,
                                const AttentionVisitor& visit) {
    const auto n_queries = static_cast<int64_t>(input.window.size());
    std::vector<int32_t> rows;
    for (const auto& query : input.window) rows.push_back(static_cast<int32_t>(query.row));
    const int64_t longest = std::ranges::max(input.heads, {}, &HeadSlots::length).length;
    const AccountedBytes held(runner.accountant(), MemoryUse::compute,
                              2 * sizeof(float) * static_cast<size_t>(longest * n_queries));
    std::vector<float> mask;
    std::vector<float> attention;

    for (int32_t head = 0; head < input.n_head(); head++) {
        const auto& slots = input.heads[static_cast<size_t>(head / input.n_group())];
        const auto [begin, length, n_foreign] = aligned(input.k, slots);
        const bool is_first_of_group = head % input.n_group() == 0;
        if (is_first_of_group) mask = causal_mask(input.window, n_foreign, slots.length);
        attention.resize(static_cast<size_t>(slots.length * n_queries));
        Graph graph(16);
        auto* context = graph.context();
        ggml_tensor* k = ggml_view_2d(context, input.k, input.k->ne[0], length, input.k->nb[1],
                                      static_cast<size_t>(begin) * input.k->nb[1]);
        ggml_tensor* numbers = graph.input(GGML_TYPE_I32, n_queries);
        ggml_tensor* bias = graph.input(GGML_TYPE_F32, length, n_queries);
        ggml_tensor* weights = softmax_weights(graph, traits, input, k, head, 1, numbers, bias);
        graph.output(weights);
        if (auto allocated = runner.allocate(graph); !allocated) return allocated;
        set_input<float>(bias, mask);
        set_input<int32_t>(numbers, rows);
        if (auto computed = runner.compute(graph); !computed) return computed;
        const auto row_bytes = static_cast<size_t>(slots.length) * sizeof(float);
        ggml_backend_tensor_get_2d(weights, attention.data(), static_cast<size_t>(n_foreign) * sizeof(float), row_bytes,
                                   static_cast<size_t>(n_queries), weights->nb[1], row_bytes);
        visit(head, attention);
    }
    return {};
}

}  // namespace cake
