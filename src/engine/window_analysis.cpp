#include "engine/window_analysis.hpp"

#include <cmath>

#include "model/layer_graph.hpp"

namespace cake {

namespace {

std::vector<float> causal_mask(std::span<const int32_t> visible, int64_t n_total) {
    const auto n = static_cast<size_t>(n_total);
    std::vector<float> mask(n * visible.size(), 0.0F);
    for (size_t i = 0; i < visible.size(); i++) {
        for (auto j = static_cast<size_t>(visible[i]); j < n; j++) mask[i * n + j] = -INFINITY;
    }
    return mask;
}

}  // namespace

Result<AttentionStats> analyze_window(GraphRunner& runner, const Hparams& h, const WindowInput& input,
                                      Dispersion dispersion) {
    const auto n_queries = static_cast<int64_t>(input.visible.size());
    const int32_t group = h.n_head / h.n_head_kv;
    const auto mask = causal_mask(input.visible, input.n_total);
    std::vector<float> attention(static_cast<size_t>(input.n_total * n_queries));
    AttentionStats stats(h.n_head, input.n_keys);

    for (int32_t head = 0; head < h.n_head; head++) {
        Graph graph(16);
        auto* context = graph.context();
        const auto begin = static_cast<size_t>(input.head_begin[static_cast<size_t>(head / group)]);
        ggml_tensor* k = ggml_view_2d(context, const_cast<ggml_tensor*>(input.k), h.head_dim_k, input.n_total,
                                      input.k->nb[1], begin * input.k->nb[1]);
        ggml_tensor* q = ggml_view_2d(context, const_cast<ggml_tensor*>(input.queries), h.head_dim_k, n_queries,
                                      input.queries->nb[1],
                                      static_cast<size_t>(head) * static_cast<size_t>(h.head_dim_k) * sizeof(float));
        ggml_tensor* bias = graph.input(GGML_TYPE_F32, input.n_total, n_queries);
        ggml_tensor* weights =
            ggml_soft_max_ext(context, ggml_mul_mat(context, k, q), bias, LayerGraph::attention_scale(h), 0.0F);
        graph.output(weights);
        if (auto allocated = runner.allocate(graph); !allocated) return std::unexpected(allocated.error());
        set_input<float>(bias, mask);
        if (auto computed = runner.compute(graph); !computed) return std::unexpected(computed.error());
        ggml_backend_tensor_get(weights, attention.data(), 0, attention.size() * sizeof(float));
        add_head(stats, head, attention, static_cast<int32_t>(n_queries), dispersion);
    }
    return stats;
}

}  // namespace cake
