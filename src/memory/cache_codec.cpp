#include "memory/cache_codec.hpp"

#include <algorithm>
#include <cstddef>
#include <functional>
#include <vector>

namespace cake {

namespace {

/// Calls `part` for consecutive pieces of the rows [first, first + n) of a tensor, with offset and size in bytes.
template <typename Part>
Result<void> for_each_part(const ggml_tensor* rows, int64_t first, int64_t n, Part part) {
    constexpr size_t kBytes = size_t{1} << 20U;
    const size_t begin = static_cast<size_t>(first) * rows->nb[1];
    const size_t end = static_cast<size_t>(first + n) * rows->nb[1];
    for (size_t offset = begin; offset < end; offset += kBytes) {
        if (auto done = part(offset, std::min(kBytes, end - offset)); !done) return done;
    }
    return {};
}

Result<void> write_rows(SessionWriter& writer, const ggml_tensor* rows, int64_t first, int64_t n) {
    std::vector<std::byte> staging;
    return for_each_part(rows, first, n, [&](size_t offset, size_t size) {
        staging.resize(size);
        ggml_backend_tensor_get(rows, staging.data(), offset, size);
        return writer.write(staging);
    });
}

/// Writes the rows of a layer's ring. If it is not full, the oldest query becomes the first row.
Result<void> write_ring(SessionWriter& writer, const QueryRing& ring, const ggml_tensor* queries) {
    const int64_t first = ring.n_filled() < ring.n_rows() ? ring.oldest() : 0;
    const int64_t n = std::min(ring.n_rows() - first, int64_t{ring.n_filled()});
    if (auto w = write_rows(writer, queries, first, n); !w) return w;
    return write_rows(writer, queries, 0, ring.n_filled() - n);
}

Result<void> read_rows(SessionReader& reader, ggml_tensor* rows, int64_t first, int64_t n) {
    std::vector<std::byte> staging;
    return for_each_part(rows, first, n, [&](size_t offset, size_t size) {
        staging.resize(size);
        auto read = reader.read(staging);
        if (read) ggml_backend_tensor_set(rows, staging.data(), offset, size);
        return read;
    });
}

Result<void> write_store(SessionWriter& writer, const KvStore& store) {
    const auto write = [&](auto values) { return writer.write(std::as_bytes(values)); };
    for (const int32_t layer : store.layers()) {
        for (int32_t head = 0; head < store.shape().n_head_kv; head++) {
            if (auto w = write(store.positions(layer, head)); !w) return w;
            if (auto w = write(store.scores(layer, head)); !w) return w;
            if (auto w = write(store.sums(layer, head)); !w) return w;
            const Run& run = store.runs(layer)[static_cast<size_t>(head)];
            const auto& buffer = store.buffer(layer);
            if (auto w = write_rows(writer, buffer.k(), run.begin, run.length); !w) return w;
            if (buffer.v_in_k()) continue;
            if (auto w = write_rows(writer, buffer.v(), run.begin, run.length); !w) return w;
        }
    }
    return {};
}

Result<void> read_run(SessionReader& reader, KvStore& store, int32_t layer, int32_t head, int32_t length,
                      int64_t n_tokens) {
    const auto read = [&](auto values) { return reader.read(std::as_writable_bytes(values)); };
    const int64_t first = store.extend(layer, head, length);
    const auto positions = store.positions(layer, head);
    if (auto r = read(positions); !r) return r;
    if (auto r = read(store.scores(layer, head)); !r) return r;
    if (auto r = read(store.sums(layer, head)); !r) return r;
    const bool rising = std::ranges::adjacent_find(positions, std::greater_equal{}) == positions.end();
    if (!rising || positions.front() < 0 || positions.back() >= n_tokens)
        return reader.damaged("the positions of its tokens are out of order");
    const auto& buffer = store.buffer(layer);
    if (auto r = read_rows(reader, buffer.k(), first, length); !r) return r;
    return buffer.v_in_k() ? Result<void>() : read_rows(reader, buffer.v(), first, length);
}

Result<void> read_sliding(SessionReader& reader, KvStore& store, int32_t length, int64_t n_tokens) {
    for (const int32_t layer : store.layers()) {
        for (int32_t head = 0; head < store.shape().n_head_kv; head++) {
            if (auto r = read_run(reader, store, layer, head, length, n_tokens); !r) return r;
            // A sliding window is the end of the text, without gaps.
            if (store.positions(layer, head).front() != n_tokens - length)
                return reader.damaged("a window is not the end of the text");
        }
    }
    return {};
}

}  // namespace

Result<void> write_queries(SessionWriter& writer, const SequenceCache& cache) {
    for (const int32_t layer : cache.sliced.layers()) {
        const ggml_tensor* queries = cache.queries.layer(layer);
        if (queries == nullptr) continue;
        if (auto w = write_ring(writer, cache.queries, queries); !w) return w;
    }
    return {};
}

Result<void> write_cache(SessionWriter& writer, const SequenceCache& cache) {
    if (auto w = write_store(writer, cache.sliced); !w) return w;
    if (auto w = write_store(writer, cache.sliding); !w) return w;
    for (const int32_t layer : cache.recurrent.layers())
        if (auto w = write_rows(writer, cache.recurrent.layer(layer), 0, 1); !w) return w;
    return {};
}

Result<void> read_cache(SessionReader& reader, SequenceCache& cache, std::span<const int32_t> sliced_lengths,
                        int32_t sliding_length, int64_t n_tokens) {
    for (const int32_t layer : cache.sliced.layers()) {
        ggml_tensor* queries = cache.queries.layer(layer);
        if (queries == nullptr) continue;
        if (auto r = read_rows(reader, queries, 0, cache.queries.n_filled()); !r) return r;
    }
    auto length = sliced_lengths.begin();
    for (const int32_t layer : cache.sliced.layers()) {
        for (int32_t head = 0; head < cache.sliced.shape().n_head_kv; head++) {
            if (auto r = read_run(reader, cache.sliced, layer, head, *length++, n_tokens); !r) return r;
        }
    }
    if (auto r = read_sliding(reader, cache.sliding, sliding_length, n_tokens); !r) return r;
    for (const int32_t layer : cache.recurrent.layers())
        if (auto r = read_rows(reader, cache.recurrent.layer(layer), 0, 1); !r) return r;
    return {};
}

}  // namespace cake
