// What the engine computes for scorers, compared with the definitions in method/.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "backend/accounted_tensor.hpp"
#include "engine/engine_state.hpp"
#include "engine/query_moments.hpp"
#include "engine/sequence_config.hpp"
#include "eviction/output_norms.hpp"
#include "eviction/replay_attention.hpp"
#include "method/attention_stats.hpp"
#include "method/kvzip.hpp"
#include "model/output_weights.hpp"
#include "support/test_models.hpp"

namespace cake {
namespace {

using test::load;

class ScorerInputs : public testing::TestWithParam<std::string> {
  protected:
    void SetUp() override {
        engine = EngineAccess::state(load(GetParam()));
        auto made = SequenceConfig::make(engine, {.policy = "kvzip+"});
        ASSERT_TRUE(made) << made.error().message;
        config = std::make_unique<SequenceConfig>(std::move(*made));
    }

    AccountedTensor tensor(ggml_type type, int64_t width, int64_t rows) {
        auto made = AccountedTensor::allocate(
            accountant, MemoryUse::compute, engine->compute.memory().part(0).buffer_type, type, width, rows, "a test");
        EXPECT_TRUE(made);
        return std::move(*made);
    }

    /// A tensor of random numbers, and the numbers as it stores them.
    AccountedTensor random_tensor(int64_t width, int64_t rows, std::vector<float>& values) {
        auto made = tensor(GGML_TYPE_F32, width, rows);
        std::normal_distribution<float> normal;
        values.resize(static_cast<size_t>(width * rows));
        for (float& x : values) x = normal(random);
        ggml_backend_tensor_set(made.get(), values.data(), 0, values.size() * sizeof(float));
        return made;
    }

    std::span<const float> rows_of(std::span<const float> values, int64_t dim, const HeadSlots& slots) {
        return values.subspan(static_cast<size_t>(slots.begin * dim), static_cast<size_t>(slots.length * dim));
    }

    std::shared_ptr<const EngineState> engine;
    std::unique_ptr<SequenceConfig> config;
    Accountant accountant;
    std::mt19937 random{1};
};

TEST_P(ScorerInputs, OutputNormsAreThoseOfTheProjectedValues) {
    const auto& h = engine->hparams;
    std::vector<float> values;
    const auto v = random_tensor(h.head_dim_v, 40 * h.n_head_kv, values);
    std::vector<HeadSlots> slots;
    for (int32_t head = 0; head < h.n_head_kv; head++) slots.push_back({.begin = 40 * head + 3, .length = 20 + head});
    const int32_t layer = config->layout.sliced_layers.back();
    const auto weights = read_output_weights(engine->file, h, layer);
    ASSERT_TRUE(weights) << weights.error().message;
    const int64_t width = int64_t{h.head_dim_v} * h.n_head;
    const int32_t n_group = h.n_head / h.n_head_kv;
    GraphRunner runner(engine->compute, accountant);
    for (const bool kernels : {false, true}) {
        CacheRules rules = *config;
        rules.attention = {.kernels = kernels, .n_threads = 2};
        const auto means = output_norms(runner, rules, layer, v.get(), slots, OutputNorm::l1_of_group);
        ASSERT_TRUE(means) << means.error().message;
        const auto each = output_norms(runner, rules, layer, v.get(), slots, OutputNorm::l2_of_head);
        ASSERT_TRUE(each) << each.error().message;
        for (int32_t head = 0; head < h.n_head; head++) {
            std::vector<float> columns;
            for (size_t row = 0; row < weights->size(); row += static_cast<size_t>(width))
                columns.append_range(std::span(*weights).subspan(row + static_cast<size_t>(head * h.head_dim_v),
                                                                 static_cast<size_t>(h.head_dim_v)));
            const auto& of_group = slots[static_cast<size_t>(head / n_group)];
            const auto expected = output_norms(rows_of(values, h.head_dim_v, of_group), columns,
                                               static_cast<size_t>(h.head_dim_v), false);
            const auto& actual = (*each)[static_cast<size_t>(head)];
            ASSERT_EQ(actual.size(), expected.size());
            for (size_t j = 0; j < actual.size(); j++) EXPECT_NEAR(actual[j], expected[j], 2e-3F * expected[j]);
        }
        for (int32_t head = 0; head < h.n_head_kv; head++) {
            const auto& actual = (*means)[static_cast<size_t>(head)];
            std::vector<float> expected(actual.size(), 0.0F);
            for (int32_t i = 0; i < n_group; i++) {
                std::vector<float> columns;
                for (size_t row = 0; row < weights->size(); row += static_cast<size_t>(width))
                    columns.append_range(
                        std::span(*weights).subspan(row + static_cast<size_t>((head * n_group + i) * h.head_dim_v),
                                                    static_cast<size_t>(h.head_dim_v)));
                const auto norms = output_norms(rows_of(values, h.head_dim_v, slots[static_cast<size_t>(head)]),
                                                columns, static_cast<size_t>(h.head_dim_v), true);
                for (size_t j = 0; j < norms.size(); j++) expected[j] += norms[j] / static_cast<float>(n_group);
            }
            for (size_t j = 0; j < actual.size(); j++) EXPECT_NEAR(actual[j], expected[j], 2e-3F * expected[j]);
        }
    }
}

TEST_P(ScorerInputs, ReplayAttendsToSinksChunkAndItself) {
    const auto& h = engine->hparams;
    constexpr int64_t kText = 50;    // tokens of the text, of which a chunk of 20 begins at 18
    constexpr int64_t kReplay = 13;  // tokens of the replay; the batch has the last 5 of them
    constexpr int64_t kQueries = 5;
    std::vector<float> keys;
    std::vector<float> queries;
    const auto k = random_tensor(h.head_dim_k, 100 * h.n_head_kv, keys);
    const auto q = random_tensor(int64_t{h.head_dim_k} * h.n_head, 8, queries);
    ReplayQueries replay{.queries = q.get(),
                         .n_queries = kQueries,
                         .k = k.get(),
                         .heads = {},
                         .n_replay = kReplay,
                         .chunk_end = 12,
                         .n_chunk = 20,
                         .hidden_norms = {1, 2, 3, 4, 5}};
    for (int32_t head = 0; head < h.n_head_kv; head++)
        replay.heads.push_back({.begin = 100 * head + head, .length = kText + kReplay});
    const std::vector<float> norm(20, 3.0F);
    const std::vector<std::span<const float>> norms(static_cast<size_t>(h.n_head), norm);
    const auto traits = config->traits_of(config->layout.sliced_layers.front());
    GraphRunner runner(engine->compute, accountant);
    ASSERT_EQ(traits.softcap, 0) << "the reference has no soft cap";

    const auto dim = static_cast<size_t>(h.head_dim_k);
    const float factor = traits.scale * std::sqrt(static_cast<float>(dim));
    for (size_t head = 0; head < replay.heads.size(); head++) {
        const auto of_head = rows_of(keys, h.head_dim_k, replay.heads[head]);
        std::vector<float> compared(of_head.begin(), of_head.begin() + static_cast<ptrdiff_t>(4 * dim));
        compared.append_range(of_head.subspan(18 * dim, 20 * dim));
        compared.append_range(of_head.subspan(kText * dim, kReplay * dim));
        std::vector<float> expected(20, 0.0F);
        std::vector<float> expected_output(20, 0.0F);
        for (int32_t i = 0; i < h.n_head / h.n_head_kv; i++) {
            const size_t query_head = head * static_cast<size_t>(h.n_head / h.n_head_kv) + static_cast<size_t>(i);
            std::vector<float> own;
            for (size_t row = 0; row < kQueries; row++)
                for (size_t d = 0; d < dim; d++)
                    own.push_back(factor * queries[(row * static_cast<size_t>(h.n_head) + query_head) * dim + d]);
            const auto weights = window_attention(own, compared, h.head_dim_k, kQueries);
            raise_to_replay(expected, weights, kQueries, 4, {}, {});
            raise_to_replay(expected_output, weights, kQueries, 4, norm, replay.hidden_norms);
        }
        for (const bool kernels : {false, true}) {
            std::vector<std::vector<float>> attention(static_cast<size_t>(h.n_head_kv), std::vector<float>(20, 0.0F));
            auto output = attention;
            const auto raised = raise_importance(
                runner, {.kernels = kernels, .n_threads = 2}, traits, replay, norms,
                {.of_attention = {attention.begin(), attention.end()}, .of_output = {output.begin(), output.end()}});
            ASSERT_TRUE(raised) << raised.error().message;
            for (size_t j = 0; j < expected.size(); j++) {
                EXPECT_NEAR(attention[head][j], expected[j], 1e-3F * expected[j] + 1e-6F)
                    << "head " << head << " key " << j;
                EXPECT_NEAR(output[head][j], expected_output[j], 1e-3F * expected_output[j] + 1e-6F);
            }
        }
    }
}

TEST_P(ScorerInputs, ExpectedQueriesAreTheMomentsRotatedToTheFuture) {
    const auto& h = engine->hparams;
    constexpr int64_t kPosition = 90;
    constexpr int64_t kTokens = 30;
    const int32_t layer = config->layout.sliced_layers.front();
    std::vector<float> queries;
    const auto q = random_tensor(int64_t{h.head_dim_k} * h.n_head, kTokens, queries);
    GraphRunner runner(engine->compute, accountant);
    LayerMoments moments(h);
    moments.begin_layer();
    QueryMoments reference(h.n_head, h.head_dim_k);
    // Two chunks; of the first, the sinks are left out.
    for (const int64_t begin : {int64_t{0}, int64_t{11}}) {
        const int64_t end = begin == 0 ? 11 : kTokens;
        Graph graph(64);
        ggml_tensor* chunk = ggml_view_3d(graph.context(), q.get(), h.head_dim_k, h.n_head, end - begin,
                                          static_cast<size_t>(h.head_dim_k) * sizeof(float), q.get()->nb[1],
                                          static_cast<size_t>(begin) * q.get()->nb[1]);
        moments.add_nodes(graph, chunk, begin);
        ASSERT_TRUE(runner.allocate(graph));
        ASSERT_TRUE(runner.compute(graph));
        moments.take();
    }
    const auto dim = static_cast<size_t>(h.head_dim_k);
    const auto expected = moments.expected(runner, engine->weights, layer, kPosition);
    ASSERT_TRUE(expected) << expected.error().message;

    // The rotation of every position, applied to each counted query, must have the expected mean.
    for (int32_t head = 0; head < h.n_head; head++) {
        std::vector<float> own;
        for (size_t i = 4; i < static_cast<size_t>(kTokens); i++)
            own.append_range(
                std::span(queries).subspan((i * static_cast<size_t>(h.n_head) + static_cast<size_t>(head)) * dim, dim));
        reference.add(head, own);
        const auto mean = reference.mean(head);
        Graph graph(16);
        ggml_tensor* positions = graph.input(GGML_TYPE_I32, LayerMoments::kFuture);
        ggml_tensor* copies = graph.input(GGML_TYPE_F32, h.head_dim_k, LayerMoments::kFuture);
        const auto part = [&](int64_t begin, int64_t n) {
            return ggml_view_3d(graph.context(), copies, n, 1, LayerMoments::kFuture, copies->nb[1], copies->nb[1],
                                static_cast<size_t>(begin) * sizeof(float));
        };
        ggml_tensor* x = part(h.rot_begin(), h.head_dim_k - h.rot_begin());
        if (h.rotates_in(layer)) x = LayerGraph(graph.context(), h, engine->weights).rotate(layer, x, positions);
        if (h.rot_begin() > 0) x = ggml_concat(graph.context(), part(0, h.rot_begin()), x, 0);
        x = graph.output(ggml_cont(graph.context(), x));
        ASSERT_TRUE(runner.allocate(graph));
        set_numbers<int32_t>(positions, kPosition);
        std::vector<float> repeated;
        for (int32_t i = 0; i < LayerMoments::kFuture; i++) repeated.append_range(mean);
        set_input<float>(copies, repeated);
        ASSERT_TRUE(runner.compute(graph));
        std::vector<float> rotated(repeated.size());
        ggml_backend_tensor_get(x, rotated.data(), 0, rotated.size() * sizeof(float));
        const float factor = h.attention_scale * std::sqrt(static_cast<float>(dim));
        const int32_t n_group = h.n_head / h.n_head_kv;
        const auto actual = std::span(expected->means[static_cast<size_t>(head / n_group)])
                                .subspan(static_cast<size_t>(head % n_group) * dim, dim);
        for (size_t d = 0; d < dim; d++) {
            double sum = 0;
            for (size_t i = d; i < rotated.size(); i += dim) sum += rotated[i];
            EXPECT_NEAR(actual[d], factor * sum / LayerMoments::kFuture, 1e-3) << "head " << head << " element " << d;
        }
        const auto covariance = std::span(expected->covariances[static_cast<size_t>(head / n_group)])
                                    .subspan(static_cast<size_t>(head % n_group) * dim * dim, dim * dim);
        double trace = 0;
        for (size_t d = 0; d < dim; d++) {
            EXPECT_GE(covariance[d * dim + d], -1e-4F) << "a variance";
            trace += covariance[d * dim + d];
            for (size_t e = 0; e < d; e++) EXPECT_NEAR(covariance[d * dim + e], covariance[e * dim + d], 1e-3);
        }
        EXPECT_GT(trace, 0);
    }
}

INSTANTIATE_TEST_SUITE_P(, ScorerInputs,
                         testing::Values("f32", "q8_0", "gemma3-q8_0", "phi3-q8_0", "smollm3", "rope_scaled",
                                         "deepseek2", "qwen35"),
                         test::family_test_name);

}  // namespace
}  // namespace cake
