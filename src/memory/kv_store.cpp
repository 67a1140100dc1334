#include "memory/kv_store.hpp"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <numeric>
#include <utility>

namespace cake {

namespace {

/// The smallest number of moves that bring the slots `from_base + indices` (ascending) to consecutive slots from `to`.
std::vector<RowMove> gather(std::span<const int32_t> indices, int64_t from_base, int64_t to) {
    std::vector<RowMove> moves;
    for (const int32_t index : indices) {
        const int64_t from = from_base + index;
        if (!moves.empty() && moves.back().from + moves.back().length == from) {
            moves.back().length++;
        } else {
            moves.push_back({.from = from, .to = to, .length = 1});
        }
        to++;
    }
    return moves;
}

}  // namespace

int64_t part_layers(const KvShape& shape, int32_t n_layer, LayerShares shares) {
    return n_layer > 0 && shares == LayerShares::any ? shape.n_layer : n_layer;
}

SlotNotes::SlotNotes(Accountant& accountant, int64_t n_slots)
    : positions_(std::make_unique_for_overwrite<int32_t[]>(static_cast<size_t>(n_slots))),
      scores_(std::make_unique_for_overwrite<float[]>(static_cast<size_t>(n_slots))),
      sums_(std::make_unique_for_overwrite<float[]>(static_cast<size_t>(n_slots))),
      bytes_(accountant, MemoryUse::compute, static_cast<size_t>(n_slots) * (sizeof(int32_t) + 2 * sizeof(float))) {}

void SlotNotes::set(int64_t slot, int32_t position) const {
    positions_[static_cast<size_t>(slot)] = position;
    scores_[static_cast<size_t>(slot)] = 0;
    sums_[static_cast<size_t>(slot)] = 0;
}

void SlotNotes::move(int64_t from, int64_t to, int64_t n) const {
    const auto move_values = [&](auto* values) {
        std::memmove(values + to, values + from, static_cast<size_t>(n) * sizeof(*values));
    };
    move_values(positions_.get());
    move_values(scores_.get());
    move_values(sums_.get());
}

Result<KvStore> KvStore::create(Accountant& accountant, const LayerMemory& memory, const KvShape& shape,
                                int64_t tokens_per_layer, std::span<const int32_t> layers, LayerShares shares) {
    KvStore store;
    store.shape_ = shape;
    store.n_slots_ = tokens_per_layer * shape.n_layer * shape.n_head_kv;
    store.runs_.resize(static_cast<size_t>(shape.n_layer) * static_cast<size_t>(shape.n_head_kv));
    store.layers_.assign(layers.begin(), layers.end());
    if (layers.empty()) {
        store.layers_.resize(static_cast<size_t>(shape.n_layer));
        std::iota(store.layers_.begin(), store.layers_.end(), 0);
    }
    assert(std::ssize(store.layers_) == shape.n_layer && std::ranges::is_sorted(store.layers_));
    store.index_of_layer_.assign(static_cast<size_t>(store.layers_.back()) + 1, -1);
    for (int32_t i = 0; i < shape.n_layer; i++)
        store.index_of_layer_[static_cast<size_t>(store.layers_[static_cast<size_t>(i)])] = i;
    for (size_t i = 0; i < memory.n_parts(); i++) {
        const int32_t n_layer = memory.n_layers(i, store.layers_);
        if (n_layer == 0) continue;
        const int64_t n_slots = part_layers(shape, n_layer, shares) * tokens_per_layer * shape.n_head_kv;
        auto buffer = KvBuffer::allocate(accountant, memory.part(i), shape, n_slots, "the K/V budget");
        if (!buffer) return std::unexpected(buffer.error());
        store.part_of_layer_.insert(store.part_of_layer_.end(), static_cast<size_t>(n_layer), store.parts_.size());
        store.parts_.push_back({.buffer = std::move(*buffer),
                                .notes = SlotNotes(accountant, n_slots),
                                .n_runs = static_cast<size_t>(n_layer) * static_cast<size_t>(shape.n_head_kv)});
    }
    return store;
}

size_t KvStore::layer_index(int32_t layer) const {
    const int32_t i = index_of_layer_[static_cast<size_t>(layer)];
    assert(i >= 0 && "the layer is not in this store");
    return static_cast<size_t>(i);
}

size_t KvStore::index(int32_t layer, int32_t head) const {
    return layer_index(layer) * static_cast<size_t>(shape_.n_head_kv) + static_cast<size_t>(head);
}

size_t KvStore::bytes_on(ggml_backend_dev_t device) const {
    size_t n_bytes = 0;
    for (const Part& part : parts_)
        if (device_of(part.buffer.memory().buffer_type) == device) n_bytes += part.buffer.size_bytes();
    return n_bytes;
}

size_t KvStore::bytes_allocated() const {
    size_t n_bytes = 0;
    for (const Part& part : parts_) n_bytes += part.buffer.size_bytes();
    return n_bytes;
}

std::span<const Run> KvStore::runs(int32_t layer) const {
    return std::span(runs_).subspan(index(layer, 0), static_cast<size_t>(shape_.n_head_kv));
}

int64_t KvStore::n_held(int32_t layer) const {
    int64_t n = 0;
    for (const Run& r : runs(layer)) n += r.length;
    return n;
}

int32_t KvStore::longest_run() const {
    return runs_.empty() ? 0 : std::ranges::max(runs_, {}, &Run::length).length;
}

size_t KvStore::bytes_used() const {
    size_t n_slots = 0;
    for (const Run& r : runs_) n_slots += static_cast<size_t>(r.length);
    return n_slots * shape_.slot_bytes();
}

void KvStore::keep(int32_t layer, int32_t head, std::span<const int32_t> kept) {
    Run& r = run(layer, head);
    assert(std::ranges::is_sorted(kept) && (kept.empty() || (kept.front() >= 0 && kept.back() < r.length)));
    const auto moves = gather(kept, r.begin, r.begin);
    const Part& of_layer = part(layer);
    move_slots(of_layer.buffer, of_layer.buffer, moves);
    for (const auto& move : moves) of_layer.notes.move(move.from, move.to, move.length);
    r.length = static_cast<int32_t>(kept.size());
}

void KvStore::truncate(int64_t n_tokens) {
    for (const int32_t layer : layers_) {
        for (int32_t head = 0; head < shape_.n_head_kv; head++) {
            const auto held = std::as_const(*this).positions(layer, head);
            run(layer, head).length = static_cast<int32_t>(std::ranges::lower_bound(held, n_tokens) - held.begin());
        }
    }
}

void KvStore::slide(const Part& part, Run& r, int64_t begin) {
    if (begin == r.begin) return;
    const RowMove move{.from = r.begin, .to = begin, .length = r.length};
    move_slots(part.buffer, part.buffer, {&move, 1});
    part.notes.move(move.from, move.to, move.length);
    r.begin = begin;
}

void KvStore::arrange_runs(const Part& part, std::span<Run> runs, std::span<const int32_t> capacities, int64_t begin,
                           int64_t end) {
    // First all runs move down, then each moves up to its place, so that no run overwrites another.
    for (Run& r : runs) {
        slide(part, r, begin);
        begin += r.length;
    }
    for (size_t i = runs.size(); i-- > 0;) {
        Run& r = runs[i];
        r.capacity = capacities[i];
        assert(r.capacity >= r.length);
        end -= r.capacity;
        slide(part, r, end);
    }
}

void KvStore::arrange(std::span<const int32_t> capacities) {
    assert(capacities.size() == runs_.size());
    size_t first = 0;
    for (const Part& part : parts_) {
        const auto of_part = capacities.subspan(first, part.n_runs);
        const auto end = std::accumulate(of_part.begin(), of_part.end(), int64_t{0});
        assert(end <= part.buffer.n_slots() && "a store never holds more than its budget");
        arrange_runs(part, std::span(runs_).subspan(first, part.n_runs), of_part, 0, end);
        first += part.n_runs;
    }
}

void KvStore::arrange_layer(int32_t layer, std::span<const int32_t> capacities) {
    const auto layer_runs = std::span(runs_).subspan(index(layer, 0), static_cast<size_t>(shape_.n_head_kv));
    const int64_t begin = layer_runs.front().begin;
    const int64_t end = layer_runs.back().begin + layer_runs.back().capacity;
    assert(std::accumulate(capacities.begin(), capacities.end(), begin) == end);
    arrange_runs(part(layer), layer_runs, capacities, begin, end);
}

int64_t KvStore::extend(int32_t layer, int32_t head, int32_t n) {
    Run& r = run(layer, head);
    assert(n >= 0 && n <= r.capacity - r.length);
    const int64_t first = r.begin + r.length;
    r.length += n;
    return first;
}

void KvStore::load(int32_t layer, int32_t head, const KvBuffer& from, int64_t base, std::span<const int32_t> kept) {
    const int64_t to = extend(layer, head, static_cast<int32_t>(kept.size()));
    move_slots(from, buffer(layer), gather(kept, base, to));
}

void KvStore::copy(const KvStore& from) {
    for (const int32_t layer : layers_) {
        for (int32_t head = 0; head < shape_.n_head_kv; head++) {
            const Run& copied = from.run(layer, head);
            std::vector<int32_t> all(static_cast<size_t>(copied.length));
            std::iota(all.begin(), all.end(), 0);
            load(layer, head, from.buffer(layer), copied.begin, all);
            std::ranges::copy(from.positions(layer, head), positions(layer, head).begin());
            std::ranges::copy(from.scores(layer, head), scores(layer, head).begin());
            std::ranges::copy(from.sums(layer, head), sums(layer, head).begin());
        }
    }
}

void KvStore::push(int32_t layer, int32_t position) {
    for (int32_t head = 0; head < shape_.n_head_kv; head++) {
        Run& r = run(layer, head);
        assert(r.length < r.capacity);
        notes(layer).set(r.begin + r.length, position);
        r.length++;
    }
}

}  // namespace cake
