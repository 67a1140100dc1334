#include "eviction/replay_attention.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "backend/kernel_nodes.hpp"
#include "method/kvzip.hpp"
#include "method/pinned.hpp"

namespace cake {

namespace {

/// The slots that a KV head's softmax runs over: sinks, chunk, replay.
std::vector<int32_t> compared_slots(const ReplayQueries& replay, const HeadSlots& head, int64_t n_sink) {
    std::vector<int32_t> slots;
    const auto append = [&](int64_t begin, int64_t n) {
        for (int64_t i = 0; i < n; i++) slots.push_back(static_cast<int32_t>(head.begin + begin + i));
    };
    const int64_t n_text = head.length - replay.n_replay;
    append(0, n_sink);
    append(n_text - replay.chunk_end - replay.n_chunk, replay.n_chunk);
    append(n_text, replay.n_replay);
    return slots;
}

std::vector<float> causal_mask(int64_t n_slots, int64_t n_queries) {
    std::vector<float> mask(static_cast<size_t>(n_slots * n_queries), 0.0F);
    for (int64_t i = 0; i < n_queries; i++) {
        const auto row = mask.begin() + i * n_slots;
        std::fill(row + (n_slots - (n_queries - 1 - i)), row + n_slots, -INFINITY);
    }
    return mask;
}

/// The K rows that each KV head's queries are compared with, one head after another.
struct ComparedKeys {
    std::vector<int32_t> slots;
    std::vector<HeadSlots> heads;  // [n_head_kv] in `slots`
    std::vector<size_t> n_sinks;   // [n_head_kv]
};

ComparedKeys compared_keys(const ReplayQueries& replay) {
    ComparedKeys compared;
    for (const auto& head : replay.heads) {
        const int64_t n_before = head.length - replay.n_replay - replay.chunk_end - replay.n_chunk;
        const int64_t n_sink = std::min<int64_t>(kSinks, n_before);
        const auto slots = compared_slots(replay, head, n_sink);
        compared.n_sinks.push_back(static_cast<size_t>(n_sink));
        compared.heads.push_back({.begin = std::ssize(compared.slots), .length = std::ssize(slots)});
        compared.slots.append_range(slots);
    }
    return compared;
}

/// Passes the largest weight of each compared key, from the queries times `factors`, to `raise(query head, weights)`.
template <typename Raise>
Result<void> with_largest(GraphRunner& runner, const AttentionMethod& method, const AttentionTraits& traits,
                          const ReplayQueries& replay, const ComparedKeys& compared, std::vector<float> factors,
                          Raise raise) {
    WindowProblem problem{.n_head = static_cast<int32_t>(replay.queries->ne[0] / replay.k->ne[0]),
                          .dim_k = static_cast<int32_t>(replay.k->ne[0]),
                          .queries = {},
                          .newest = static_cast<size_t>(replay.n_queries - 1),
                          .heads = compared.heads,
                          .n_keys = {},
                          .scale = traits.scale,
                          .softcap = traits.softcap,
                          .largest = true,
                          .factors = std::move(factors)};
    for (int64_t i = 0; i < replay.n_queries; i++)
        problem.queries.push_back({.row = i, .unseen = replay.n_queries - 1 - i});
    for (const auto& head : compared.heads) problem.n_keys.push_back(head.length - replay.n_replay);
    const auto n_keys = problem.n_keys;
    const size_t n_group = static_cast<size_t>(problem.n_head) / compared.heads.size();

    Graph graph(16);
    ggml_tensor* numbers = graph.input(GGML_TYPE_I32, std::ssize(compared.slots));
    ggml_tensor* k = ggml_get_rows(graph.context(), replay.k, numbers);
    const auto node = window_stats_node(graph, method.n_threads, replay.queries, k, nullptr, std::move(problem));
    if (auto allocated = runner.allocate(graph); !allocated) return allocated;
    set_input<int32_t>(numbers, compared.slots);
    if (auto computed = runner.compute(graph); !computed) return computed;
    std::vector<float> weights;
    for (size_t head = 0; head < n_keys.size(); head++) {
        weights.resize(static_cast<size_t>(n_keys[head]));
        for (size_t i = 0; i < n_group; i++) {
            const size_t offset = node.stats.result_begin(head) + i * weights.size();
            ggml_backend_tensor_get(node.result, weights.data(), offset * sizeof(float),
                                    weights.size() * sizeof(float));
            raise(head * n_group + i, weights);
        }
    }
    return {};
}

/// raise_importance() with our kernels.
Result<void> raise_by_kernels(GraphRunner& runner, const AttentionMethod& method, const AttentionTraits& traits,
                              const ReplayQueries& replay, std::span<const std::span<const float>> norms,
                              const ReplayImportance& importance) {
    const auto compared = compared_keys(replay);
    const size_t n_group = static_cast<size_t>(replay.queries->ne[0] / replay.k->ne[0]) / replay.heads.size();
    if (!importance.of_attention.empty()) {
        auto raised = with_largest(runner, method, traits, replay, compared, {},
                                   [&](size_t head, std::span<const float> weights) {
                                       raise_to_replay(importance.of_attention[head / n_group], weights, 1,
                                                       compared.n_sinks[head / n_group], {}, {});
                                   });
        if (!raised) return raised;
    }
    if (importance.of_output.empty()) return {};
    std::vector<float> factors;
    for (const float norm : replay.hidden_norms) factors.push_back(1 / norm);
    return with_largest(runner, method, traits, replay, compared, std::move(factors),
                        [&](size_t head, std::span<const float> weights) {
                            raise_to_replay(importance.of_output[head / n_group], weights, 1,
                                            compared.n_sinks[head / n_group], norms[head], {});
                        });
}

}  // namespace

Result<void> raise_importance(GraphRunner& runner, const AttentionMethod& method, const AttentionTraits& traits,
                              const ReplayQueries& replay, std::span<const std::span<const float>> norms,
                              const ReplayImportance& importance) {
    if (method.kernels) return raise_by_kernels(runner, method, traits, replay, norms, importance);
    const int64_t dim = replay.k->ne[0];
    const auto n_head = static_cast<int32_t>(replay.queries->ne[0] / dim);
    const int32_t n_group = n_head / static_cast<int32_t>(replay.heads.size());
    std::vector<float> mask;
    std::vector<float> weights;
    const AccountedBytes held(runner.accountant(), MemoryUse::compute,
                              2 * sizeof(float) * static_cast<size_t>(replay.n_queries) *
                                  static_cast<size_t>(kSinks + replay.n_chunk + replay.n_replay));
    for (int32_t head = 0; head < n_head; head++) {
        const auto i = static_cast<size_t>(head / n_group);
        const int64_t n_before = replay.heads[i].length - replay.n_replay - replay.chunk_end - replay.n_chunk;
        const int64_t n_sink = std::min<int64_t>(kSinks, n_before);
        const auto slots = compared_slots(replay, replay.heads[i], n_sink);
        if (mask.size() != slots.size() * static_cast<size_t>(replay.n_queries))
            mask = causal_mask(std::ssize(slots), replay.n_queries);

        Graph graph(16);
        auto* context = graph.context();
        ggml_tensor* numbers = graph.input(GGML_TYPE_I32, std::ssize(slots));
        ggml_tensor* bias = graph.input(GGML_TYPE_F32, std::ssize(slots), replay.n_queries);
        ggml_tensor* k = ggml_get_rows(context, replay.k, numbers);
        ggml_tensor* q = ggml_view_2d(context, replay.queries, dim, replay.n_queries, replay.queries->nb[1],
                                      static_cast<size_t>(head * dim) * sizeof(float));
        ggml_tensor* logits = ggml_mul_mat(context, k, q);
        float scale = traits.scale;
        if (traits.softcap > 0) {
            logits = ggml_tanh(context, ggml_scale(context, logits, scale / traits.softcap));
            scale = traits.softcap;
        }
        ggml_tensor* result = graph.output(ggml_soft_max_ext(context, logits, bias, scale, 0.0F));
        if (auto allocated = runner.allocate(graph); !allocated) return allocated;
        set_input<int32_t>(numbers, slots);
        set_input<float>(bias, mask);
        if (auto computed = runner.compute(graph); !computed) return computed;
        weights.resize(mask.size());
        ggml_backend_tensor_get(result, weights.data(), 0, weights.size() * sizeof(float));
        const auto n_queries = static_cast<size_t>(replay.n_queries);
        const auto first = static_cast<size_t>(n_sink);
        if (!importance.of_attention.empty())
            raise_to_replay(importance.of_attention[i], weights, n_queries, first, {}, {});
        if (!importance.of_output.empty())
            raise_to_replay(importance.of_output[i], weights, n_queries, first, norms[static_cast<size_t>(head)],
                            replay.hidden_norms);
    }
    return {};
}

}  // namespace cake
