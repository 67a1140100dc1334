#include "backend/attention.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <stdexcept>

#include "backend/accounted_tensor.hpp"
#include "eviction/analyzer.hpp"
#include "method/attention_stats.hpp"
#include "support/cpu.hpp"

namespace cake {
namespace {

constexpr int32_t kDim = 16;
constexpr int32_t kHeads = 6;
constexpr int32_t kHeadsKv = 3;
constexpr int64_t kQueries = 5;

class Attention : public testing::TestWithParam<std::vector<HeadSlots>> {
  protected:
    static Compute make_compute() {
        auto compute = Compute::create(2);
        if (!compute) throw std::runtime_error(compute.error().message);
        return std::move(*compute);
    }

    KvBuffer make_buffer() {
        const KvShape shape{.n_layer = 1,
                            .n_head_kv = kHeadsKv,
                            .head_dim_k = kDim,
                            .head_dim_v = kDim,
                            .type_k = GGML_TYPE_F32,
                            .type_v = GGML_TYPE_F32};
        auto made = KvBuffer::allocate(accountant, test::cpu_buffer_type(), shape, 128, "the test's");
        if (!made) throw std::runtime_error(made.error().message);
        for (auto* rows : {made->k(), made->v()}) {
            const auto values = random_values(128 * kDim);
            ggml_backend_tensor_set(rows, values.data(), 0, values.size() * sizeof(float));
        }
        return std::move(*made);
    }

    std::vector<float> random_values(size_t n) {
        std::vector<float> values(n);
        for (float& x : values) x = std::normal_distribution<float>(0, 1)(random);
        return values;
    }

    static std::vector<float> read(const ggml_tensor* rows, const HeadSlots& slots) {
        std::vector<float> values(static_cast<size_t>(slots.length * kDim));
        ggml_backend_tensor_get(rows, values.data(), static_cast<size_t>(slots.begin) * rows->nb[1],
                                values.size() * sizeof(float));
        return values;
    }

    /// Causal softmax weights of a query head, computed by their definition.
    std::vector<float> expected_weights(int32_t head, const std::vector<float>& queries) const {
        std::vector<float> q;
        for (int64_t i = 0; i < kQueries; i++) {
            const auto from = queries.begin() + (i * kHeads + head) * kDim;
            q.insert(q.end(), from, from + kDim);
        }
        const auto& slots = GetParam()[static_cast<size_t>(head / (kHeads / kHeadsKv))];
        return window_attention(q, read(buffer.k(), slots), kDim, kQueries);
    }

    void expect_the_definition(const AttentionMethod& method);

    std::mt19937_64 random{11};
    Accountant accountant;
    Compute compute = make_compute();
    KvBuffer buffer = make_buffer();
    AttentionTraits traits{.scale = 1 / std::sqrt(static_cast<float>(kDim))};
    GraphRunner runner{compute, accountant};
};

void Attention::expect_the_definition(const AttentionMethod& method) {
    const auto& heads = GetParam();
    const auto queries = random_values(kDim * kHeads * kQueries);
    Graph graph(128);
    ggml_tensor* flat = graph.input(GGML_TYPE_F32, kDim * kHeads, kQueries);
    ggml_tensor* query = ggml_reshape_3d(graph.context(), flat, kDim, kHeads, kQueries);
    const auto attended = attend(graph, method, traits, query, {{.k = buffer.k(), .v = buffer.v(), .heads = heads}});
    ggml_tensor* out = graph.output(attended.node);
    ASSERT_TRUE(runner.allocate(graph));
    set_input<float>(flat, queries);
    set_masks(attended);
    ASSERT_TRUE(runner.compute(graph));
    std::vector<float> actual(static_cast<size_t>(kDim * kHeads * kQueries));
    ggml_backend_tensor_get(out, actual.data(), 0, actual.size() * sizeof(float));

    for (int32_t head = 0; head < kHeads; head++) {
        const auto& slots = heads[static_cast<size_t>(head / (kHeads / kHeadsKv))];
        const auto expected = expected_weights(head, queries);
        const auto v = read(buffer.v(), slots);
        for (size_t i = 0; i < kQueries; i++) {
            for (size_t d = 0; d < kDim; d++) {
                double sum = 0;
                for (size_t j = 0; j < static_cast<size_t>(slots.length); j++)
                    sum += static_cast<double>(expected[i * static_cast<size_t>(slots.length) + j]) * v[j * kDim + d];
                ASSERT_NEAR(actual[(i * kHeads + static_cast<size_t>(head)) * kDim + d], sum, 1e-5)
                    << "head " << head << " query " << i;
            }
        }
    }
}

TEST_P(Attention, OfOurKernelsOverRunsOfAnyLengthIsTheDefinition) {
    expect_the_definition({.kernels = true, .n_threads = 2});
}

TEST_P(Attention, OfGgmlOverRunsOfAnyLengthIsTheDefinition) {
    expect_the_definition({.kernels = false});
}

/// The last 2 slots of each KV head are the window's own.
TEST_P(Attention, StatisticsOfKernelsAndGraphsAreThoseOfTheDefinition) {
    const auto queries = random_values(kDim * kHeads * kQueries);
    auto rows = AccountedTensor::allocate(accountant, MemoryUse::compute, test::cpu_buffer_type(), GGML_TYPE_F32,
                                          kDim * kHeads, kQueries, "the queries");
    ASSERT_TRUE(rows);
    ggml_backend_tensor_set(rows->get(), queries.data(), 0, queries.size() * sizeof(float));
    std::vector<int64_t> n_keys;
    for (const auto& slots : GetParam()) n_keys.push_back(std::max<int64_t>(slots.length - 2, 0));
    AttentionStats expected(kHeads, n_keys);
    for (int32_t head = 0; head < kHeads; head++)
        add_head(expected, head, expected_weights(head, queries), kQueries, kQueries - 1);
    for (const bool kernels : {true, false}) {
        SCOPED_TRACE(kernels ? "kernels" : "a graph");
        const auto stats = attention_stats(runner, {.kernels = kernels, .n_threads = 2}, traits,
                                           {.queries = rows->get(),
                                            .window = {{0, 4}, {1, 3}, {2, 2}, {3, 1}, {4, 0}},
                                            .k = buffer.k(),
                                            .heads = GetParam()},
                                           n_keys);
        ASSERT_TRUE(stats) << stats.error().message;
        EXPECT_NEAR(stats->dispersion, expected.dispersion, 1e-5 * std::max(1.0, expected.dispersion));
        EXPECT_NEAR(stats->shift, expected.shift, 1e-6);
        for (size_t head = 0; head < kHeadsKv; head++) {
            const auto& actual = stats->heads[head];
            const auto& of_head = expected.heads[head];
            ASSERT_EQ(actual.mean.size(), of_head.mean.size());
            for (size_t i = 0; i < actual.mean.size(); i++) {
                ASSERT_NEAR(actual.mean[i], of_head.mean[i], 1e-6);
                ASSERT_NEAR(actual.variance[i], of_head.variance[i], 1e-6);
                ASSERT_NEAR(actual.last[i], of_head.last[i], 1e-6);
            }
        }
    }
}

TEST_P(Attention, WeightsAreShownHeadByHead) {
    const auto queries = random_values(kDim * kHeads * kQueries);
    Graph graph(8);
    ggml_tensor* rows =
        graph.output(ggml_scale(graph.context(), graph.input(GGML_TYPE_F32, kDim * kHeads, kQueries), 1.0F));
    GraphRunner holder(compute, accountant);
    ASSERT_TRUE(holder.allocate(graph));
    set_input<float>(rows->src[0], queries);
    ASSERT_TRUE(holder.compute(graph));
    std::vector<int32_t> seen;
    const auto done = for_each_attention(
        runner, traits,
        {.queries = rows, .window = {{0, 4}, {1, 3}, {2, 2}, {3, 1}, {4, 0}}, .k = buffer.k(), .heads = GetParam()},
        [&](int32_t head, std::span<const float> attention) {
            seen.push_back(head);
            const auto expected = expected_weights(head, queries);
            ASSERT_EQ(attention.size(), expected.size());
            for (size_t i = 0; i < expected.size(); i++) ASSERT_NEAR(attention[i], expected[i], 1e-6);
        });
    ASSERT_TRUE(done);
    EXPECT_EQ(seen, (std::vector<int32_t>{0, 1, 2, 3, 4, 5}));
    EXPECT_GE(accountant.bytes_peak(MemoryUse::compute), 5 * sizeof(float) * 2 * 5);
}

INSTANTIATE_TEST_SUITE_P(Runs, Attention,
                         testing::Values(std::vector<HeadSlots>{{0, 20}, {30, 20}, {60, 20}},
                                         std::vector<HeadSlots>{{0, 20}, {30, 20}, {61, 20}},
                                         std::vector<HeadSlots>{{3, 5}, {8, 41}, {90, 17}}));

TEST(IsEven, NeedsEqualLengthsEquallyFarApart) {
    using Heads = std::vector<HeadSlots>;
    EXPECT_TRUE(is_even(Heads{{7, 3}}));
    EXPECT_TRUE(is_even(Heads{{0, 3}, {9, 3}, {18, 3}}));
    EXPECT_FALSE(is_even(Heads{{0, 3}, {9, 3}, {19, 3}}));
    EXPECT_FALSE(is_even(Heads{{0, 3}, {9, 4}}));
}

}  // namespace
}  // namespace cake
