#include "eviction/graph_stats.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <utility>

namespace cake {

namespace {

/// Statistics of some query heads that share a KV head, in a graph.
struct HeadGroupStats {
    size_t kv_head = 0;
    int32_t first = 0;  // of the query heads
    int64_t n_foreign = 0;
    ggml_tensor* newest = nullptr;      // [1, n] input: index of the newest query
    ggml_tensor* mean = nullptr;        // [1, n_foreign + n_keys, n]
    ggml_tensor* variance = nullptr;    // [1, n_foreign + n_keys, n]
    ggml_tensor* last = nullptr;        // [slots, 1, n]
    ggml_tensor* dispersion = nullptr;  // [1, n], sums of A ln A
    ggml_tensor* shift = nullptr;       // [1, n], sums of the variance
};

/// Sum over all keys: [1, n] of `values`, [1, keys, n].
ggml_tensor* over_keys(ggml_context* context, ggml_tensor* values) {
    return ggml_sum_rows(context, ggml_reshape_2d(context, values, values->ne[1], values->ne[2]));
}

/// Adds the nodes that reduce `weights`, [slots, n_queries, n], of which the keys come first.
void add_reduction(Graph& graph, ggml_tensor* weights, int64_t n_keys, HeadGroupStats& part) {
    auto* context = graph.context();
    const int64_t n_queries = weights->ne[1];
    ggml_tensor* of_keys =
        ggml_view_3d(context, weights, n_keys, n_queries, weights->ne[2], weights->nb[1], weights->nb[2], 0);
    ggml_tensor* by_key = ggml_cont(context, ggml_permute(context, of_keys, 1, 0, 2, 3));  // [n_queries, n_keys, n]
    ggml_tensor* mean = ggml_scale(context, ggml_sum_rows(context, by_key), 1.0F / static_cast<float>(n_queries));
    ggml_tensor* squares = ggml_sum_rows(context, ggml_sqr(context, ggml_sub(context, by_key, mean)));
    ggml_tensor* variance =
        ggml_scale(context, squares, 1.0F / static_cast<float>(std::max<int64_t>(n_queries - 1, 1)));
    constexpr float kLeast = 1e-37F;  // a weight of 0 adds 0 * ln(kLeast)
    ggml_tensor* terms = ggml_mul(context, by_key, ggml_log(context, ggml_clamp(context, by_key, kLeast, 1.0F)));
    part.mean = graph.output(mean);
    part.variance = graph.output(variance);
    part.last = graph.output(ggml_get_rows(context, weights, part.newest));
    part.dispersion = graph.output(over_keys(context, ggml_sum_rows(context, terms)));
    part.shift = graph.output(over_keys(context, variance));
}

void read_part(const HeadGroupStats& part, int32_t n_group, AttentionStats& stats) {
    auto& head = stats.heads[part.kv_head];
    const auto n_keys = static_cast<size_t>(head.n_keys);
    const auto n = static_cast<size_t>(part.newest->ne[1]);
    const size_t first = static_cast<size_t>(part.first % n_group) * n_keys;
    const auto read = [&](const ggml_tensor* tensor, std::vector<float>& values) {
        const auto n_columns = static_cast<size_t>(ggml_nelements(tensor)) / n;
        ggml_backend_tensor_get_2d(tensor, values.data() + first, static_cast<size_t>(part.n_foreign) * sizeof(float),
                                   n_keys * sizeof(float), n, n_columns * sizeof(float), n_keys * sizeof(float));
    };
    read(part.mean, head.mean);
    read(part.variance, head.variance);
    read(part.last, head.last);
    std::vector<float> sums(n);
    const auto sum_of = [&](const ggml_tensor* tensor) {
        ggml_backend_tensor_get(tensor, sums.data(), 0, n * sizeof(float));
        return std::accumulate(sums.begin(), sums.end(), 0.0);
    };
    stats.dispersion -= sum_of(part.dispersion);
    stats.shift += sum_of(part.shift);
}

/// Number of query heads whose weights are in memory together.
int32_t heads_at_once(const AttentionInput& input, const HeadSlots& slots) {
    constexpr int64_t kTensors = 5;  // of the size of the weights, which are in memory together
    constexpr int64_t kMaxWeights = (int64_t{64} << 20) / (kTensors * int64_t{sizeof(float)});
    const int64_t of_head = slots.length * std::ssize(input.window);
    return static_cast<int32_t>(std::clamp<int64_t>(kMaxWeights / of_head, 1, input.n_group()));
}

}  // namespace

std::vector<float> causal_mask(std::span<const WindowQuery> window, int64_t n_foreign, int64_t n_slots) {
    std::vector<float> mask(static_cast<size_t>(n_foreign + n_slots) * window.size(), -INFINITY);
    for (size_t i = 0; i < window.size(); i++) {
        const auto begin = static_cast<ptrdiff_t>(i) * (n_foreign + n_slots) + n_foreign;
        std::fill_n(mask.begin() + begin, std::max<int64_t>(n_slots - window[i].unseen, 0), 0.0F);
    }
    return mask;
}

ggml_tensor* softmax_weights(const Graph& graph, const AttentionTraits& traits, const AttentionInput& input,
                             ggml_tensor* k, int32_t first, int32_t n, ggml_tensor* rows, ggml_tensor* mask) {
    auto* context = graph.context();
    const int64_t head_dim = input.k->ne[0];
    ggml_tensor* of_heads =
        ggml_view_2d(context, input.queries, head_dim * n, input.queries->ne[1], input.queries->nb[1],
                     static_cast<size_t>(first) * static_cast<size_t>(head_dim) * sizeof(float));
    ggml_tensor* taken = ggml_reshape_3d(context, ggml_get_rows(context, of_heads, rows), head_dim, n, rows->ne[0]);
    ggml_tensor* logits = ggml_mul_mat(context, k, ggml_cont(context, ggml_permute(context, taken, 0, 2, 1, 3)));
    ggml_prec_set_acc(logits, GGML_PREC_F32);  // before they are scaled, logits may be beyond f16
    float scale = traits.scale;
    if (traits.softcap > 0) {
        logits = ggml_tanh(context, ggml_scale(context, logits, scale / traits.softcap));
        scale = traits.softcap;
    }
    ggml_tensor* weights = ggml_soft_max_ext(context, logits, mask, scale, 0.0F);
    if (traits.sinks != nullptr) ggml_soft_max_add_sinks(weights, sinks_of(context, traits.sinks, first, n));
    return weights;
}

Result<AttentionStats> stats_of_graph(GraphRunner& runner, const AttentionTraits& traits, const AttentionInput& input,
                                      const std::vector<int64_t>& n_keys) {
    AttentionStats stats(input.n_head(), n_keys);
    const int32_t n_group = input.n_group();
    constexpr size_t kNodes = 48;
    Graph graph(kNodes * static_cast<size_t>(input.n_head()));
    const auto n_queries = std::ssize(input.window);
    ggml_tensor* rows = graph.input(GGML_TYPE_I32, n_queries);
    std::vector<HeadGroupStats> parts;
    std::map<std::pair<int64_t, int64_t>, ggml_tensor*> masks;  // by the foreign and the own slots
    for (size_t kv_head = 0; kv_head < input.heads.size(); kv_head++) {
        if (n_keys[kv_head] == 0) continue;
        const auto& slots = input.heads[kv_head];
        const auto [begin, length, n_foreign] = aligned(input.k, slots);
        ggml_tensor* k = ggml_view_2d(graph.context(), input.k, input.k->ne[0], length, input.k->nb[1],
                                      static_cast<size_t>(begin) * input.k->nb[1]);
        // Heads with as many slots share a mask.
        auto& mask = masks[{n_foreign, slots.length}];
        if (mask == nullptr) mask = graph.input(GGML_TYPE_F32, length, n_queries);
        const int32_t step = heads_at_once(input, slots);
        for (int32_t i = 0; i < n_group; i += step) {
            const int32_t n = std::min(step, n_group - i);
            HeadGroupStats part{.kv_head = kv_head,
                                .first = static_cast<int32_t>(kv_head) * n_group + i,
                                .n_foreign = n_foreign,
                                .newest = graph.input(GGML_TYPE_I32, 1, n)};
            ggml_tensor* weights = softmax_weights(graph, traits, input, k, part.first, n, rows, mask);
            add_reduction(graph, weights, n_foreign + n_keys[kv_head], part);
            parts.push_back(part);
        }
    }
    if (parts.empty()) return stats;
    if (auto allocated = runner.allocate(graph); !allocated) return std::unexpected(allocated.error());
    std::vector<int32_t> numbers;
    for (const auto& query : input.window) numbers.push_back(static_cast<int32_t>(query.row));
    set_input<int32_t>(rows, numbers);
    const std::vector<int32_t> newest(static_cast<size_t>(n_group), static_cast<int32_t>(newest_of(input.window)));
    for (const auto& part : parts) {
        set_input<int32_t>(part.newest, std::span(newest).first(static_cast<size_t>(part.newest->ne[1])));
    }
    for (const auto& [slots, mask] : masks)
        set_input<float>(mask, causal_mask(input.window, slots.first, slots.second));
    if (auto computed = runner.compute(graph); !computed) return std::unexpected(computed.error());
    for (const auto& part : parts) read_part(part, n_group, stats);
    return stats;
}

}  // namespace cake
