#include "eviction/replay_attention.hpp"

#include <algorithm>
#include <utility>

#include "backend/accounted_tensor.hpp"
#include "backend/kernel_nodes.hpp"
#include "eviction/analyzer.hpp"
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

/// The K rows that each KV head's queries are compared with, one head after another.
struct ComparedKeys {
    std::vector<int32_t> slots;
    std::vector<HeadSlots> heads;  // [n_head_kv] in `slots`
    std::vector<size_t> n_sinks;   // [n_head_kv]
    AccountedTensor k;             // f32 [head_dim_k, slots]

    size_t n_keys(size_t head, int64_t n_chunk) const { return n_sinks[head] + static_cast<size_t>(n_chunk); }
};

Result<ComparedKeys> compared_keys(GraphRunner& runner, const ReplayQueries& replay) {
    ComparedKeys compared;
    for (const auto& head : replay.heads) {
        const int64_t n_before = head.length - replay.n_replay - replay.chunk_end - replay.n_chunk;
        const int64_t n_sink = std::min<int64_t>(kSinks, n_before);
        const auto slots = compared_slots(replay, head, n_sink);
        compared.n_sinks.push_back(static_cast<size_t>(n_sink));
        compared.heads.push_back({.begin = std::ssize(compared.slots), .length = std::ssize(slots)});
        compared.slots.append_range(slots);
    }
    auto k = AccountedTensor::allocate(runner.accountant(), MemoryUse::compute,
                                       ggml_backend_buffer_get_type(replay.k->buffer), GGML_TYPE_F32, replay.k->ne[0],
                                       std::ssize(compared.slots), "the keys of a replay");
    if (!k) return std::unexpected(k.error());
    compared.k = std::move(*k);
    Graph graph(4);
    ggml_tensor* numbers = graph.input(GGML_TYPE_I32, std::ssize(compared.slots));
    graph.add(ggml_cpy(graph.context(), ggml_get_rows(graph.context(), replay.k, numbers), compared.k.get()));
    if (auto allocated = runner.allocate(graph); !allocated) return std::unexpected(allocated.error());
    set_input<int32_t>(numbers, compared.slots);
    if (auto computed = runner.compute(graph); !computed) return std::unexpected(computed.error());
    return compared;
}

std::vector<WindowQuery> causal_queries(int64_t n) {
    std::vector<WindowQuery> queries;
    for (int64_t i = 0; i < n; i++) queries.push_back({.row = i, .unseen = n - 1 - i});
    return queries;
}

/// Passes the largest weight of each compared key, from the queries times `factors`, to `raise(query head, weights)`.
template <typename Raise>
Result<void> with_largest(GraphRunner& runner, const AttentionMethod& method, const AttentionTraits& traits,
                          const ReplayQueries& replay, const ComparedKeys& compared, std::vector<float> factors,
                          Raise raise) {
    WindowProblem problem{.n_head = static_cast<int32_t>(replay.queries->ne[0] / replay.k->ne[0]),
                          .dim_k = static_cast<int32_t>(replay.k->ne[0]),
                          .queries = causal_queries(replay.n_queries),
                          .newest = static_cast<size_t>(replay.n_queries - 1),
                          .heads = compared.heads,
                          .n_keys = {},
                          .scale = traits.scale,
                          .softcap = traits.softcap,
                          .largest = true,
                          .factors = std::move(factors)};
    for (size_t head = 0; head < compared.heads.size(); head++)
        problem.n_keys.push_back(static_cast<int64_t>(compared.n_keys(head, replay.n_chunk)));
    const size_t n_group = static_cast<size_t>(problem.n_head) / compared.heads.size();

    Graph graph(8);
    const auto node =
        window_stats_node(graph, method.n_threads, replay.queries, compared.k.get(), nullptr, std::move(problem));
    if (auto allocated = runner.allocate(graph); !allocated) return allocated;
    if (auto computed = runner.compute(graph); !computed) return computed;
    std::vector<float> weights;
    for (size_t head = 0; head < compared.heads.size(); head++) {
        weights.resize(compared.n_keys(head, replay.n_chunk));
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
                              const ReplayQueries& replay, const ComparedKeys& compared,
                              std::span<const std::span<const float>> norms, const ReplayImportance& importance) {
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
    const auto compared = compared_keys(runner, replay);
    if (!compared) return std::unexpected(compared.error());
    if (method.uses_kernels(replay.k))
        return raise_by_kernels(runner, method, traits, replay, *compared, norms, importance);
    AttentionTraits without_sinks = traits;  // KVzip's softmax has no logits besides those of the keys
    without_sinks.sinks = nullptr;
    const AttentionInput input{.queries = replay.queries,
                               .window = causal_queries(replay.n_queries),
                               .k = compared->k.get(),
                               .heads = compared->heads};
    const auto n_queries = static_cast<size_t>(replay.n_queries);
    return for_each_attention(runner, without_sinks, input, [&](int32_t head, std::span<const float> weights) {
        const auto i = static_cast<size_t>(head / input.n_group());
        const size_t first = compared->n_sinks[i];
        if (!importance.of_attention.empty())
            raise_to_replay(importance.of_attention[i], weights, n_queries, first, {}, {});
        if (!importance.of_output.empty())
            raise_to_replay(importance.of_output[i], weights, n_queries, first, norms[static_cast<size_t>(head)],
                            replay.hidden_norms);
    });
}

}  // namespace cake
