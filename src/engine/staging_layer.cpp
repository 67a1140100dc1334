#include "engine/staging_layer.hpp"

#include <algorithm>
#include <numeric>
#include <utility>

namespace cake {

namespace {
constexpr const char* kWhat = "one layer's K and V of the text";
}

int64_t max_held(const KvStore& store, int32_t layer) {
    return std::ranges::max(store.runs(layer), {}, &Run::length).length;
}

int64_t max_held(const SequenceParts& state) {
    return std::max(state.cache.sliced.longest_run(), state.cache.sliding.longest_run());
}

StagingLayer::StagingLayer(Accountant& accountant, KvBuffer buffer, int64_t n_rows, int64_t n_segment)
    : buffer_(std::move(buffer)),
      n_segment_(n_segment),
      n_rows_(n_rows),
      notes_(accountant, MemoryUse::compute,
             static_cast<size_t>(buffer_.n_slots()) * (sizeof(int32_t) + 2 * sizeof(float))) {}

Result<StagingLayer> StagingLayer::allocate(Accountant& accountant, const DeviceMemory& memory, const KvShape& shape,
                                            int64_t n_rows, int64_t n_segment, size_t least_bytes) {
    n_rows = staging_rows(memory.buffer_type, n_rows);
    auto buffer = KvBuffer::allocate(accountant, memory, shape, n_rows * shape.n_head_kv, kWhat, least_bytes);
    if (!buffer) return std::unexpected(buffer.error());
    return StagingLayer(accountant, std::move(*buffer), n_rows, n_segment);
}

Result<StagingLayer> StagingLayer::reshaped(Accountant& accountant, const KvShape& shape) const {
    auto buffer = buffer_.reshaped(shape, n_rows_ * shape.n_head_kv, kWhat);
    if (!buffer) return std::unexpected(buffer.error());
    return StagingLayer(accountant, std::move(*buffer), n_rows_, n_segment_);
}

void StagingLayer::take(KvStore& store, int32_t layer, int32_t position) {
    copy(store, layer, position);
    for (int32_t head = 0; head < store.shape().n_head_kv; head++) store.keep(layer, head, {});
}

void StagingLayer::copy(const KvStore& store, int32_t layer, int32_t position) {
    const int32_t n_head_kv = store.shape().n_head_kv;
    n_kept_ = max_held(store, layer);
    slots_.clear();
    positions_.resize(static_cast<size_t>(n_head_kv));
    sums_.resize(static_cast<size_t>(n_head_kv));
    kept_scores_.resize(static_cast<size_t>(n_head_kv));
    for (int32_t head = 0; head < n_head_kv; head++) {
        const auto i = static_cast<size_t>(head);
        const Run run = store.runs(layer)[i];
        const auto& slots = slots_.emplace_back(head * n_rows_ + n_kept_ - run.length, run.length + n_segment_);
        positions_[i].assign_range(store.positions(layer, head));
        positions_[i].resize(static_cast<size_t>(slots.length));
        std::iota(positions_[i].begin() + run.length, positions_[i].end(), position);
        sums_[i].assign_range(store.sums(layer, head));
        sums_[i].resize(static_cast<size_t>(slots.length));
        kept_scores_[i].assign_range(store.scores(layer, head));
        const RowMove move{.from = run.begin, .to = slots.begin, .length = run.length};
        move_slots(store.buffer(layer), buffer_, {&move, 1});
    }
}

std::vector<HeadSlots> StagingLayer::slots_to(int64_t end) const {
    auto seen = slots_;
    for (auto& head : seen) head.length += end - n_segment_;
    return seen;
}

LayerKeys StagingLayer::keys(int32_t window) const {
    LayerKeys keys{.buffer = buffer_,
                   .slots = slots_,
                   .positions = {positions_.begin(), positions_.end()},
                   .sums = {sums_.begin(), sums_.end()},
                   .kept_scores = {kept_scores_.begin(), kept_scores_.end()}};
    keys.set_window(window);
    return keys;
}

void StagingLayer::put(Graph& graph, const Projections& projected, ggml_tensor* at) const {
    if (projected.key != nullptr) put(graph, projected.key, buffer_.k(), at);
    if (projected.value != nullptr) put(graph, projected.value, buffer_.v(), at);
}

/// Writes K or V, [head_dim, n_head_kv, n], to `rows` of the buffer.
void StagingLayer::put(Graph& graph, ggml_tensor* values, ggml_tensor* rows, ggml_tensor* at) const {
    ggml_tensor* by_head = ggml_permute(graph.context(), values, 0, 2, 1, 3);
    ggml_tensor* all = ggml_view_3d(graph.context(), rows, rows->ne[0], n_rows_, values->ne[1], rows->nb[1],
                                    static_cast<size_t>(n_rows_) * rows->nb[1], 0);
    graph.add(ggml_set_rows(graph.context(), all, by_head, at));
}

}  // namespace cake
