#include "backend/attention.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "backend/kernel_nodes.hpp"

namespace cake {

namespace {

ggml_tensor* view_heads(const Graph& graph, ggml_tensor* rows, int64_t begin, int64_t length, int64_t n_head,
                        int64_t stride) {
    return ggml_view_3d(graph.context(), rows, rows->ne[0], length, n_head, rows->nb[1],
                        static_cast<size_t>(stride) * rows->nb[1], static_cast<size_t>(begin) * rows->nb[1]);
}

/// Restricts each head to the slots that `n_queries` queries see through the sliding window; 0: all.
void leave_out_unseen(std::span<HeadSlots> heads, int64_t window, int64_t n_queries) {
    if (window == 0) return;
    const int64_t n = window + n_queries - 1;
    for (HeadSlots& head : heads) {
        const int64_t unseen = std::max<int64_t>(head.length - n, 0);
        head.begin += unseen;
        head.length -= unseen;
    }
}

/// Attention of the query heads from `first_head` on. `k`, `v`: [head_dim, n_kv, n_head_kv]; `mask`: f16 [n_kv, n],
/// added to the logits, or null. Returns [head_dim_v * n_head, n].
ggml_tensor* flash_attention(const Graph& graph, const AttentionTraits& traits, int64_t first_head, ggml_tensor* query,
                             ggml_tensor* k, ggml_tensor* v, ggml_tensor* mask) {
    auto* context = graph.context();
    ggml_tensor* q = ggml_permute(context, query, 0, 2, 1, 3);
    ggml_tensor* out = ggml_flash_attn_ext(context, q, k, v, mask, traits.scale, 0.0F, traits.softcap);
    ggml_prec_set_acc(out, GGML_PREC_F32);
    if (traits.sinks != nullptr) {
        ggml_flash_attn_ext_add_sinks(out, sinks_of(context, traits.sinks, first_head, query->ne[1]));
    }
    return ggml_reshape_2d(context, out, out->ne[0] * out->ne[1], out->ne[2]);
}

/// True if one view holds `n_head` KV heads that are equally far apart, of which `first` is the first. ggml counts the
/// rows of a view as if there were none between the heads.
bool is_one_view(const ggml_tensor* rows, const AlignedSlots& first, int64_t n_head) {
    return first.begin + first.length * n_head <= rows->ne[1];
}

/// Attention of one sequence, computed by ggml on any device: all KV heads at once if is_even(), else one by one.
/// Appends to `masks` the inputs that set_masks() has to fill.
ggml_tensor* attend_by_ggml(Graph& graph, const AttentionTraits& traits, ggml_tensor* query, const AttendedSlots& slots,
                            std::vector<AttentionMask>& masks) {
    const auto& [k, v, heads] = slots;
    const auto mask = [&](int64_t length, int64_t n_unseen) -> ggml_tensor* {
        if (query->ne[2] == 1 && n_unseen == 0) return nullptr;  // a single query sees all slots
        return masks.emplace_back(graph.input(GGML_TYPE_F16, length, query->ne[2]), n_unseen).tensor;
    };
    const auto n_head_kv = static_cast<int64_t>(heads.size());
    if (const auto first = aligned(k, heads[0]); is_even(heads) && is_one_view(k, first, n_head_kv)) {
        const auto [begin, length, n_foreign] = first;
        const int64_t stride = n_head_kv > 1 ? heads[1].begin - heads[0].begin : length;
        const auto view = [&](ggml_tensor* rows) { return view_heads(graph, rows, begin, length, n_head_kv, stride); };
        return flash_attention(graph, traits, 0, query, view(k), view(v), mask(length, n_foreign));
    }
    const int64_t n_group = query->ne[1] / n_head_kv;
    ggml_tensor* all = nullptr;
    for (size_t i = 0; i < heads.size(); i++) {
        const auto [begin, length, n_foreign] = aligned(k, heads[i]);
        ggml_tensor* group = ggml_view_3d(graph.context(), query, query->ne[0], n_group, query->ne[2], query->nb[1],
                                          query->nb[2], i * static_cast<size_t>(n_group) * query->nb[1]);
        ggml_tensor* out = flash_attention(graph, traits, static_cast<int64_t>(i) * n_group, group,
                                           view_heads(graph, k, begin, length, 1, length),
                                           view_heads(graph, v, begin, length, 1, length), mask(length, n_foreign));
        all = all == nullptr ? out : ggml_concat(graph.context(), all, out, 0);
    }
    return all;
}

bool is_on_device(const ggml_tensor* rows) {
    return rows->buffer != nullptr && !ggml_backend_buffer_is_host(rows->buffer);
}

}  // namespace

bool supports_slots(ggml_backend_dev_t device, const SlotTypes& types) {
    constexpr int64_t kSlots = 256;
    const ggml_context_ptr context(
        ggml_init({.mem_size = 16 * ggml_tensor_overhead(), .mem_buffer = nullptr, .no_alloc = true}));
    const auto tensor = [&](ggml_type type, int64_t ne0, int64_t ne1, int64_t ne2) {
        return ggml_new_tensor_3d(context.get(), type, ne0, ne1, ne2);
    };
    ggml_tensor* k = tensor(types.k, types.head_dim_k, kSlots, types.n_head_kv);
    ggml_tensor* v = tensor(types.v, types.head_dim_v, kSlots, types.n_head_kv);
    ggml_tensor* q = tensor(GGML_TYPE_F32, types.head_dim_k, 1, types.n_head);
    const auto writes = [&](ggml_tensor* rows) {
        ggml_tensor* values = tensor(GGML_TYPE_F32, rows->ne[0], 1, types.n_head_kv);
        return ggml_backend_dev_supports_op(device,
                                            ggml_set_rows(context.get(), rows, values, tensor(GGML_TYPE_I64, 1, 1, 1)));
    };
    return ggml_backend_dev_supports_op(device, ggml_flash_attn_ext(context.get(), q, k, v, nullptr, 1, 0, 0)) &&
           writes(k) && writes(v);
}

bool AttentionMethod::uses_kernels(const ggml_tensor* rows) const {
    return kernels && !is_on_device(rows);
}

ggml_tensor* sinks_of(ggml_context* context, ggml_tensor* sinks, int64_t first_head, int64_t n_head) {
    ggml_tensor* part = ggml_view_1d(context, sinks, n_head, static_cast<size_t>(first_head) * sizeof(float));
    return first_head == 0 ? part : ggml_cont(context, part);  // its begin may not be aligned as devices want it
}

AlignedSlots aligned(const ggml_tensor* rows, const HeadSlots& slots) {
    const int64_t n_foreign = is_on_device(rows) ? slots.begin % kRowAlignment : 0;
    return {.begin = slots.begin - n_foreign, .length = slots.length + n_foreign, .n_foreign = n_foreign};
}

bool is_even(std::span<const HeadSlots> heads) {
    for (size_t i = 1; i < heads.size(); i++) {
        if (heads[i].length != heads[0].length) return false;
        if (heads[i].begin - heads[i - 1].begin != heads[1].begin - heads[0].begin) return false;
    }
    return true;
}

Attended attend(Graph& graph, const AttentionMethod& method, const AttentionTraits& traits, ggml_tensor* query,
                std::vector<AttendedSlots> sequences) {
    Attended result{.window = traits.window};
    const int64_t n_each = query->ne[2] / static_cast<int64_t>(sequences.size());
    for (auto& sequence : sequences) leave_out_unseen(sequence.heads, result.window, n_each);
    if (method.uses_kernels(sequences[0].k)) {
        const auto [node, work] = attention_node(graph, method.n_threads, traits, query, sequences);
        result.node = node;
        result.work = &work;
        return result;
    }
    for (size_t i = 0; i < sequences.size(); i++) {
        ggml_tensor* own = ggml_view_3d(graph.context(), query, query->ne[0], query->ne[1], n_each, query->nb[1],
                                        query->nb[2], i * static_cast<size_t>(n_each) * query->nb[2]);
        ggml_tensor* out = attend_by_ggml(graph, traits, own, sequences[i], result.masks);
        result.node = i == 0 ? out : ggml_concat(graph.context(), result.node, out, 1);
    }
    return result;
}

bool set_slots(const Attended& attended, std::vector<std::vector<HeadSlots>> sequences) {
    if (attended.work == nullptr) return false;
    for (auto& heads : sequences) leave_out_unseen(heads, attended.window, attended.work->n_queries());
    return attended.work->set_slots(std::move(sequences));
}

void set_masks(const Attended& attended) {
    for (const auto& [mask, n_foreign] : attended.masks) {
        const ggml_fp16_t hidden = ggml_fp32_to_fp16(-INFINITY);
        const ggml_fp16_t seen = ggml_fp32_to_fp16(0.0F);
        std::vector<ggml_fp16_t> row(static_cast<size_t>(mask->ne[0]), hidden);
        const int64_t n_before = mask->ne[0] - mask->ne[1];
        std::fill(row.begin() + n_foreign, row.begin() + n_before, seen);
        for (int64_t i = 0; i < mask->ne[1]; i++) {
            const int64_t newest = n_before + i;
            row[static_cast<size_t>(newest)] = seen;
            if (attended.window > 0 && newest >= attended.window)
                std::fill_n(row.begin(), newest - attended.window + 1, hidden);
            ggml_backend_tensor_set(mask, row.data(), static_cast<size_t>(i) * mask->nb[1], mask->nb[1]);
        }
    }
}

}  // namespace cake
