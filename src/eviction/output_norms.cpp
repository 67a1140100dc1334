#include "eviction/output_norms.hpp"

#include <algorithm>

#include "backend/accounted_tensor.hpp"
#include "backend/kernel_nodes.hpp"

namespace cake {

namespace {

constexpr int64_t kTokensPerGraph = 256;

/// Norms of the values in `n` slots from `begin` on, which belong to KV head `head`, for each query head of the group,
/// or their mean: [n, 1 or n_group]. `output`: [head_dim_v * n_head, n_embd].
Result<std::vector<float>> norms_of(GraphRunner& runner, const CacheRules& rules, ggml_tensor* output, ggml_tensor* v,
                                    size_t head, int64_t begin, int64_t n, OutputNorm kind) {
    const auto n_group = static_cast<size_t>(rules.n_group());
    Graph graph(16 + 8 * n_group);
    auto* context = graph.context();
    ggml_tensor* slots = graph.input(GGML_TYPE_I32, n);
    ggml_tensor* values = ggml_get_rows(context, v, slots);  // f32 [head_dim_v, n]
    ggml_tensor* norms = nullptr;
    for (size_t i = 0; i < n_group; i++) {
        const size_t query_head = head * n_group + i;
        ggml_tensor* columns = ggml_view_2d(context, output, v->ne[0], output->ne[1], output->nb[1],
                                            query_head * static_cast<size_t>(v->ne[0]) * ggml_element_size(output));
        ggml_tensor* projected = ggml_mul_mat(context, columns, values);  // [n_embd, n]
        const bool l1 = kind == OutputNorm::l1_of_group;
        ggml_tensor* norm = ggml_sum_rows(context, l1 ? ggml_abs(context, projected) : ggml_sqr(context, projected));
        if (!l1) norm = ggml_sqrt(context, norm);  // [1, n]
        if (norms == nullptr)
            norms = norm;
        else
            norms = l1 ? ggml_add(context, norms, norm) : ggml_concat(context, norms, norm, 1);
    }
    if (kind == OutputNorm::l1_of_group) norms = ggml_scale(context, norms, 1.0F / static_cast<float>(n_group));
    graph.output(norms);
    if (auto allocated = runner.allocate(graph); !allocated) return std::unexpected(allocated.error());
    set_numbers<int32_t>(slots, begin);
    if (auto computed = runner.compute(graph); !computed) return std::unexpected(computed.error());
    std::vector<float> result(static_cast<size_t>(ggml_nelements(norms)));
    ggml_backend_tensor_get(norms, result.data(), 0, result.size() * sizeof(float));
    return result;
}

/// The same with our kernel, for all KV heads.
Result<std::vector<std::vector<float>>> norms_of_kernel(GraphRunner& runner, const CacheRules& rules,
                                                        ggml_tensor* output, ggml_tensor* v,
                                                        std::span<const HeadSlots> slots, OutputNorm kind) {
    Graph graph(8);
    const auto node = output_norms_node(graph, rules.attention.n_threads, v, output,
                                        {.n_head = rules.n_head,
                                         .n_embd = static_cast<int32_t>(output->ne[1]),
                                         .dim_v = static_cast<int32_t>(v->ne[0]),
                                         .heads = {slots.begin(), slots.end()},
                                         .kind = kind});
    if (auto allocated = runner.allocate(graph); !allocated) return std::unexpected(allocated.error());
    if (auto computed = runner.compute(graph); !computed) return std::unexpected(computed.error());
    std::vector<std::vector<float>> norms;
    for (size_t head = 0; head < slots.size(); head++) {
        size_t offset = node.norms.result_begin(head) * sizeof(float);
        for (int32_t i = 0; i < (kind == OutputNorm::l1_of_group ? 1 : rules.n_group()); i++) {
            auto& values = norms.emplace_back(static_cast<size_t>(slots[head].length));
            ggml_backend_tensor_get(node.result, values.data(), offset, values.size() * sizeof(float));
            offset += values.size() * sizeof(float);
        }
    }
    return norms;
}

/// The output projection of a layer as float32 in memory of the cache's device.
Result<AccountedTensor> load_output(Accountant& accountant, const CacheRules& rules, int32_t layer, ggml_tensor* v) {
    const int64_t n_rows = v->ne[0] * rules.n_head;
    const auto weights = rules.output_weights(layer);
    if (!weights) return std::unexpected(weights.error());
    auto output = AccountedTensor::allocate(accountant, MemoryUse::compute, ggml_backend_buffer_get_type(v->buffer),
                                            GGML_TYPE_F32, n_rows, std::ssize(*weights) / n_rows,
                                            "the output projection of a layer");
    if (output) ggml_backend_tensor_set(output->get(), weights->data(), 0, weights->size() * sizeof(float));
    return output;
}

}  // namespace

Result<std::vector<std::vector<float>>> output_norms(GraphRunner& runner, const CacheRules& rules, int32_t layer,
                                                     ggml_tensor* v, std::span<const HeadSlots> slots,
                                                     OutputNorm kind) {
    const auto output = load_output(runner.accountant(), rules, layer, v);
    if (!output) return std::unexpected(output.error());
    if (rules.attention.uses_kernels(v)) return norms_of_kernel(runner, rules, output->get(), v, slots, kind);
    const size_t n_parts = kind == OutputNorm::l1_of_group ? 1 : static_cast<size_t>(rules.n_group());
    std::vector<std::vector<float>> norms(slots.size() * n_parts);
    for (size_t head = 0; head < slots.size(); head++) {
        for (int64_t begin = 0; begin < slots[head].length; begin += kTokensPerGraph) {
            const int64_t n = std::min(kTokensPerGraph, slots[head].length - begin);
            const auto computed = norms_of(runner, rules, output->get(), v, head, slots[head].begin + begin, n, kind);
            if (!computed) return std::unexpected(computed.error());
            for (size_t i = 0; i < n_parts; i++) {
                const auto part = std::span(*computed).subspan(i * static_cast<size_t>(n), static_cast<size_t>(n));
                norms[head * n_parts + i].append_range(part);
            }
        }
    }
    return norms;
}

}  // namespace cake
