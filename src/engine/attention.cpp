#include "engine/attention.hpp"

#include <algorithm>
#include <cmath>

namespace cake {

namespace {

ggml_tensor* view_heads(const Graph& graph, ggml_tensor* rows, int64_t begin, int64_t length, int64_t n_head,
                        int64_t stride) {
    return ggml_view_3d(graph.context(), rows, rows->ne[0], length, n_head, rows->nb[1],
                        static_cast<size_t>(stride) * rows->nb[1], static_cast<size_t>(begin) * rows->nb[1]);
}

std::vector<float> causal_mask(std::span<const int64_t> unseen, int64_t n_keys) {
    const auto n = static_cast<size_t>(n_keys);
    std::vector<float> mask(n * unseen.size(), 0.0F);
    for (size_t i = 0; i < unseen.size(); i++) {
        const auto n_seen = static_cast<size_t>(std::max<int64_t>(n_keys - unseen[i], 0));
        std::fill(mask.begin() + static_cast<ptrdiff_t>(i * n + n_seen),
                  mask.begin() + static_cast<ptrdiff_t>((i + 1) * n), -INFINITY);
    }
    return mask;
}

}  // namespace

std::vector<HeadSlots> held_slots(const KvStore& store, int32_t layer) {
    std::vector<HeadSlots> slots;
    for (const Run& run : store.runs(layer)) slots.emplace_back(run.begin, run.length);
    return slots;
}

bool is_even(std::span<const HeadSlots> heads) {
    for (size_t i = 1; i < heads.size(); i++) {
        if (heads[i].length != heads[0].length) return false;
        if (heads[i].begin - heads[i - 1].begin != heads[1].begin - heads[0].begin) return false;
    }
    return true;
}

ggml_tensor* attend(const Graph& graph, const LayerGraph& nodes, ggml_tensor* query, const KvBuffer& buffer,
                    std::span<const HeadSlots> heads, std::span<ggml_tensor* const> masks) {
    const auto n_head_kv = static_cast<int64_t>(heads.size());
    const auto mask = [&](size_t head) { return masks.empty() ? nullptr : masks[std::min(head, masks.size() - 1)]; };
    if (is_even(heads)) {
        const int64_t stride = n_head_kv > 1 ? heads[1].begin - heads[0].begin : heads[0].length;
        const auto view = [&](ggml_tensor* rows) {
            return view_heads(graph, rows, heads[0].begin, heads[0].length, n_head_kv, stride);
        };
        return nodes.attend(query, view(buffer.k()), view(buffer.v()), mask(0));
    }
    const int64_t n_group = query->ne[1] / n_head_kv;
    ggml_tensor* joined = nullptr;
    for (size_t i = 0; i < heads.size(); i++) {
        const auto [begin, length] = heads[i];
        ggml_tensor* group = ggml_view_3d(graph.context(), query, query->ne[0], n_group, query->ne[2], query->nb[1],
                                          query->nb[2], i * static_cast<size_t>(n_group) * query->nb[1]);
        ggml_tensor* out = nodes.attend(group, view_heads(graph, buffer.k(), begin, length, 1, length),
                                        view_heads(graph, buffer.v(), begin, length, 1, length), mask(i));
        joined = joined == nullptr ? out : ggml_concat(graph.context(), joined, out, 0);
    }
    return joined;
}

Result<void> for_each_attention(GraphRunner& runner, const Hparams& h, const AttentionInput& input,
                                const AttentionVisitor& visit) {
    const auto n_queries = static_cast<int64_t>(input.unseen.size());
    int64_t longest = 0;
    for (const auto& head : input.heads) longest = std::max(longest, head.length);
    const AccountedBytes held(runner.accountant(), MemoryUse::compute,
                              2 * sizeof(float) * static_cast<size_t>(longest * n_queries));
    std::vector<float> mask;
    std::vector<float> attention;

    for (int32_t head = 0; head < h.n_head; head++) {
        const auto [begin, length] = input.heads[static_cast<size_t>(head / h.n_group())];
        const auto n_weights = static_cast<size_t>(length * n_queries);
        if (mask.size() != n_weights) mask = causal_mask(input.unseen, length);
        attention.resize(n_weights);
        Graph graph(16);
        auto* context = graph.context();
        ggml_tensor* k = ggml_view_2d(context, const_cast<ggml_tensor*>(input.k), h.head_dim_k, length, input.k->nb[1],
                                      static_cast<size_t>(begin) * input.k->nb[1]);
        ggml_tensor* q = ggml_view_2d(
            context, const_cast<ggml_tensor*>(input.queries), h.head_dim_k, n_queries, input.queries->nb[1],
            static_cast<size_t>(input.first_query) * input.queries->nb[1] +
                static_cast<size_t>(head) * static_cast<size_t>(h.head_dim_k) * sizeof(float));
        ggml_tensor* bias = graph.input(GGML_TYPE_F32, length, n_queries);
        ggml_tensor* weights =
            ggml_soft_max_ext(context, ggml_mul_mat(context, k, q), bias, LayerGraph::attention_scale(h), 0.0F);
        graph.output(weights);
        if (auto allocated = runner.allocate(graph); !allocated) return allocated;
        set_input<float>(bias, mask);
        if (auto computed = runner.compute(graph); !computed) return computed;
        ggml_backend_tensor_get(weights, attention.data(), 0, n_weights * sizeof(float));
        visit(head, attention);
    }
    return {};
}

}  // namespace cake
