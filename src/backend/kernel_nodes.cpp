#include "backend/kernel_nodes.hpp"

#include <utility>

namespace cake {

namespace {

Rows rows_of(const ggml_tensor* rows) {
    return {.data = rows->data, .row_bytes = rows->nb[1], .type = rows->type, .dim = static_cast<int32_t>(rows->ne[0])};
}

/// bfloat16 if neither K nor V is more precise than bfloat16, else float32.
Products products_of(const ggml_tensor& k, const ggml_tensor& v) {
    const auto exact = [](const ggml_tensor& rows) { return rows.type == GGML_TYPE_F32 || rows.type == GGML_TYPE_F16; };
    return exact(k) || exact(v) ? Products::f32 : Products::bf16;
}

const float* floats_or_null(const ggml_tensor* tensor) {
    return tensor == nullptr ? nullptr : static_cast<const float*>(tensor->data);
}

void run_attention(ggml_tensor* node, int thread, int /*n_threads*/, void* work) {
    static_cast<BatchedAttention*>(work)->run(*node, thread);
}

WindowData window_data(const ggml_tensor* node, size_t dim_k) {
    const ggml_tensor* queries = node->src[0];
    return {.queries = {.data = static_cast<const float*>(queries->data),
                        .head_stride = dim_k,
                        .stride = queries->nb[1] / sizeof(float)},
            .k = rows_of(node->src[1]),
            .sinks = floats_or_null(node->src[2])};
}

std::span<float> floats_of(const ggml_tensor* node) {
    return {static_cast<float*>(node->data), static_cast<size_t>(node->ne[0])};
}

/// The node's data is the softmax sums, followed by the scratch memory of all threads.
void run_window_sums(ggml_tensor* node, int thread, int n_threads, void* work) {
    auto& stats = *static_cast<WindowStats*>(work);
    const auto all = floats_of(node);
    stats.find_sums(window_data(node, static_cast<size_t>(node->src[1]->ne[0])), all.first(stats.n_sums()),
                    all.subspan(stats.n_sums()), {.thread = thread, .n_threads = n_threads});
}

/// The node's data is the result, followed by the scratch memory of all threads.
void run_window_reduction(ggml_tensor* node, int thread, int n_threads, void* work) {
    auto& stats = *static_cast<WindowStats*>(work);
    const auto all = floats_of(node);
    stats.reduce(window_data(node, static_cast<size_t>(node->src[1]->ne[0])), floats_of(node->src[3]),
                 all.first(stats.n_result()), all.subspan(stats.n_result()),
                 {.thread = thread, .n_threads = n_threads});
}

/// The node's data is the result, followed by the scratch memory of all threads.
void run_output_norms(ggml_tensor* node, int thread, int n_threads, void* work) {
    const auto& norms = *static_cast<const OutputNorms*>(work);
    const auto all = floats_of(node);
    norms.run({.v = rows_of(node->src[0]), .output = static_cast<const float*>(node->src[1]->data)},
              all.first(norms.n_result()), all.subspan(norms.n_result()), {.thread = thread, .n_threads = n_threads});
}

}  // namespace

OutputNormsNode output_norms_node(Graph& graph, int32_t n_threads, ggml_tensor* v, ggml_tensor* output,
                                  OutputNormProblem problem) {
    auto& norms = graph.own<OutputNorms>(std::move(problem), n_threads);
    ggml_tensor* args[] = {v, output};
    ggml_tensor* node =
        ggml_custom_4d(graph.context(), GGML_TYPE_F32, static_cast<int64_t>(norms.n_result() + norms.n_scratch()), 1, 1,
                       1, args, 2, run_output_norms, GGML_N_TASKS_MAX, &norms);
    return {.result = graph.output(node), .norms = norms};
}

WindowStatsNode window_stats_node(Graph& graph, int32_t n_threads, ggml_tensor* queries, ggml_tensor* k,
                                  ggml_tensor* sinks, WindowProblem problem) {
    auto& stats = graph.own<WindowStats>(std::move(problem), n_threads);
    const auto node = [&](size_t n_floats, std::span<ggml_tensor*> args, ggml_custom_op_t run) {
        return ggml_custom_4d(graph.context(), GGML_TYPE_F32, static_cast<int64_t>(n_floats + stats.n_scratch()), 1, 1,
                              1, args.data(), static_cast<int>(args.size()), run, GGML_N_TASKS_MAX, &stats);
    };
    ggml_tensor* args[] = {queries, k, sinks, nullptr};
    args[3] = node(stats.n_sums(), std::span(args).first(3), run_window_sums);
    return {.result = graph.output(node(stats.n_result(), args, run_window_reduction)), .stats = stats};
}

BatchedAttention::BatchedAttention(const AttentionTraits& traits, const ggml_tensor& query,
                                   std::span<const AttendedSlots> sequences, int32_t n_threads)
    : n_queries_(query.ne[2] / static_cast<int64_t>(sequences.size())),
      dim_v_(static_cast<int32_t>(sequences[0].v->ne[0])) {
    for (const auto& [k, v, heads] : sequences) {
        auto attention = std::make_unique<Attention>(AttentionProblem{.n_head = static_cast<int32_t>(query.ne[1]),
                                                                      .n_queries = n_queries_,
                                                                      .dim_k = static_cast<int32_t>(query.ne[0]),
                                                                      .dim_v = dim_v_,
                                                                      .heads = heads,
                                                                      .scale = traits.scale,
                                                                      .softcap = traits.softcap,
                                                                      .window = traits.window,
                                                                      .products = products_of(*k, *v)},
                                                     n_threads);
        parts_.push_back({.attention = std::move(attention), .k = rows_of(k), .v = rows_of(v)});
    }
    most_scratch_ = n_scratch();
}

size_t BatchedAttention::n_scratch() const {
    size_t n = 0;
    for (const auto& part : parts_) n += part.attention->n_scratch();
    return n;
}

bool BatchedAttention::set_slots(std::vector<std::vector<HeadSlots>> sequences) {
    for (size_t i = 0; i < parts_.size(); i++) parts_[i].attention->set_slots(std::move(sequences[i]));
    return n_scratch() <= most_scratch_;
}

void BatchedAttention::run(ggml_tensor& node, int32_t thread) {
    const ggml_tensor* query = node.src[0];
    const auto dim_v = static_cast<size_t>(dim_v_);
    const auto n_queries = static_cast<size_t>(n_queries_);
    const size_t width = dim_v * static_cast<size_t>(query->ne[1]);
    auto* result = static_cast<float*>(node.data);
    float* scratch = result + width * static_cast<size_t>(query->ne[2]);
    const auto* queries = static_cast<const float*>(query->data);
    const size_t query_stride = query->nb[2] / sizeof(float);
    for (const auto& part : parts_) {
        const size_t n_scratch = part.attention->n_scratch();
        part.attention->run(
            {.queries = {.data = queries, .head_stride = query->nb[1] / sizeof(float), .stride = query_stride},
             .k = part.k,
             .v = part.v,
             .sinks = floats_or_null(node.src[1]),
             .result = {.data = result, .head_stride = dim_v, .stride = width}},
            {scratch, n_scratch}, thread);
        queries += n_queries * query_stride;
        result += n_queries * width;
        scratch += n_scratch;
    }
}

AttentionNode attention_node(Graph& graph, int32_t n_threads, const AttentionTraits& traits, ggml_tensor* query,
                             std::span<const AttendedSlots> sequences) {
    auto& work = graph.own<BatchedAttention>(traits, *query, sequences, n_threads);
    const int64_t width = sequences[0].v->ne[0] * query->ne[1];
    ggml_tensor* args[] = {query, traits.sinks};
    ggml_tensor* node =
        ggml_custom_4d(graph.context(), GGML_TYPE_F32, width * query->ne[2] + static_cast<int64_t>(work.n_scratch()), 1,
                       1, 1, args, 2, run_attention, GGML_N_TASKS_MAX, &work);
    return {.result =
                ggml_view_2d(graph.context(), node, width, query->ne[2], static_cast<size_t>(width) * sizeof(float), 0),
            .work = work};
}

}  // namespace cake
