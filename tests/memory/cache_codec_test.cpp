#include "memory/cache_codec.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <stdexcept>
#include <vector>

#include "support/cpu.hpp"

namespace cake {
namespace {

constexpr int64_t kTokens = 40;
constexpr int32_t kWindow = 6;

/// Lengths of the runs of layers 0 and 2, which are sliced; layer 1 is sliding.
const std::vector<int32_t> kLengths = {9, 7, 12, 8};

class CacheCodec : public testing::Test {
  protected:
    CacheCodec() : path(std::filesystem::temp_directory_path() / fmt::format("cake-codec-{}", ::getpid())) {}
    ~CacheCodec() override { std::filesystem::remove(path); }

    /// An open cache with runs of kLengths, which hold no token yet.
    SequenceCache open() {
        const KvShape shape{.n_layer = 2, .n_head_kv = 2, .head_dim_k = 8, .head_dim_v = 16};
        KvShape sliding = shape;
        sliding.n_layer = 1;
        const CacheLayout layout{
            .sliced = shape, .sliding = sliding, .sliced_layers = {0, 2}, .sliding_layers = {1}, .n_swa = kWindow};
        auto cache = SequenceCache::open(accountant, test::cpu_buffer_type(), layout,
                                         {.tokens_per_layer = 12, .slack = 2, .sliding_tokens = 8}, 16, 4);
        if (!cache) throw std::runtime_error(cache.error().message);
        cache->sliced.arrange(kLengths);
        return std::move(*cache);
    }

    /// The same with tokens in it: every value differs from all others of its kind.
    SequenceCache filled() {
        auto cache = open();
        size_t run = 0;
        for (const int32_t layer : {0, 2})
            for (const int32_t head : {0, 1}) fill(cache.sliced, layer, head, kLengths[run++], 3);
        for (const int32_t head : {0, 1}) fill(cache.sliding, 1, head, kWindow, 1);
        cache.queries.restore(4, 3);
        for (const int32_t layer : {0, 2}) set_floats(cache.queries.layer(layer), 0, 4 * 16);
        return cache;
    }

    /// Adds `n` tokens, the last at the end of the text and the others `step` positions apart.
    void fill(KvStore& store, int32_t layer, int32_t head, int32_t n, int32_t step) {
        const int64_t first = store.extend(layer, head, n);
        for (int32_t i = 0; i < n; i++) {
            const auto at = static_cast<size_t>(i);
            store.positions(layer, head)[at] = static_cast<int32_t>(kTokens) - 1 - (n - 1 - i) * step;
            store.scores(layer, head)[at] = next++;
            store.sums(layer, head)[at] = next++;
        }
        for (ggml_tensor* rows : {store.buffer(layer).k(), store.buffer(layer).v()}) {
            std::vector<uint8_t> bytes(static_cast<size_t>(n) * rows->nb[1]);
            std::ranges::generate(bytes, [&] { return static_cast<uint8_t>(random = random * 31 + 7); });
            ggml_backend_tensor_set(rows, bytes.data(), static_cast<size_t>(first) * rows->nb[1], bytes.size());
        }
    }

    void set_floats(ggml_tensor* tensor, size_t offset, size_t n) {
        std::vector<float> values(n);
        std::ranges::generate(values, [&] { return next++; });
        ggml_backend_tensor_set(tensor, values.data(), offset, n * sizeof(float));
    }

    void save(const SequenceCache& cache) const {
        auto writer = SessionWriter::create(path.string(), "{}");
        ASSERT_TRUE(writer) << writer.error().message;
        ASSERT_TRUE(write_queries(*writer, cache));
        ASSERT_TRUE(write_cache(*writer, cache));
        ASSERT_TRUE(writer->commit());
    }

    Result<SequenceCache> saved(int64_t n_tokens = kTokens) {
        auto reader = SessionReader::open(path.string());
        if (!reader) return std::unexpected(reader.error());
        auto cache = open();
        cache.queries.restore(4, 3);
        if (auto read = read_cache(*reader, cache, kLengths, kWindow, n_tokens); !read)
            return std::unexpected(read.error());
        EXPECT_EQ(reader->bytes_left(), 0U);
        return cache;
    }

    void expect_refused(const SequenceCache& cache, const char* why) {
        save(cache);
        const auto read = saved();
        ASSERT_FALSE(read);
        EXPECT_NE(read.error().message.find(why), std::string::npos) << read.error().message;
        EXPECT_EQ(read.error().code, Error::Code::corrupt);
    }

    std::filesystem::path path;
    Accountant accountant;
    float next = 1;
    uint32_t random = 1;
};

std::vector<uint8_t> bytes_of(const ggml_tensor* tensor, int64_t first, int64_t n) {
    std::vector<uint8_t> bytes(static_cast<size_t>(n) * tensor->nb[1]);
    ggml_backend_tensor_get(tensor, bytes.data(), static_cast<size_t>(first) * tensor->nb[1], bytes.size());
    return bytes;
}

void expect_same(const KvStore& a, const KvStore& b, int32_t layer, int32_t head) {
    const Run left = a.runs(layer)[static_cast<size_t>(head)];
    const Run right = b.runs(layer)[static_cast<size_t>(head)];
    ASSERT_EQ(left.length, right.length);
    EXPECT_TRUE(std::ranges::equal(a.positions(layer, head), b.positions(layer, head)));
    EXPECT_TRUE(std::ranges::equal(a.scores(layer, head), b.scores(layer, head)));
    EXPECT_TRUE(std::ranges::equal(a.sums(layer, head), b.sums(layer, head)));
    EXPECT_EQ(bytes_of(a.buffer(layer).k(), left.begin, left.length),
              bytes_of(b.buffer(layer).k(), right.begin, right.length));
    EXPECT_EQ(bytes_of(a.buffer(layer).v(), left.begin, left.length),
              bytes_of(b.buffer(layer).v(), right.begin, right.length));
}

TEST_F(CacheCodec, ReadsWhatWasWritten) {
    const auto cache = filled();
    save(cache);
    const auto read = saved();
    ASSERT_TRUE(read) << read.error().message;
    for (const int32_t head : {0, 1}) {
        for (const int32_t layer : {0, 2}) expect_same(cache.sliced, read->sliced, layer, head);
        expect_same(cache.sliding, read->sliding, 1, head);
    }
    for (const int32_t layer : {0, 2})
        EXPECT_EQ(bytes_of(cache.queries.layer(layer), 0, 4), bytes_of(read->queries.layer(layer), 0, 4));
}

TEST_F(CacheCodec, RefusesPositionsThatDoNotRise) {
    auto cache = filled();
    cache.sliced.positions(2, 1)[3] = cache.sliced.positions(2, 1)[4];
    expect_refused(cache, "positions");
}

TEST_F(CacheCodec, RefusesPositionsOutsideTheText) {
    auto cache = filled();
    cache.sliced.positions(0, 0).back() = kTokens;
    expect_refused(cache, "positions");
    auto negative = filled();
    negative.sliced.positions(0, 0).front() = -1;
    expect_refused(negative, "positions");
}

TEST_F(CacheCodec, RefusesAWindowThatIsNotTheEndOfTheText) {
    auto cache = filled();
    cache.sliding.positions(1, 1).front()--;
    expect_refused(cache, "window");
}

TEST_F(CacheCodec, RefusesAFileThatEndsTooEarly) {
    auto writer = SessionWriter::create(path.string(), "{}");
    ASSERT_TRUE(writer);
    ASSERT_TRUE(writer->commit());
    const auto read = saved();
    ASSERT_FALSE(read);
    EXPECT_EQ(read.error().code, Error::Code::corrupt) << read.error().message;
}

}  // namespace
}  // namespace cake
