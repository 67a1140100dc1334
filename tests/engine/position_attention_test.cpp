#include "engine/position_attention.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <stdexcept>

#include "engine/sequence_parts.hpp"
#include "support/test_models.hpp"

namespace cake {
namespace {

constexpr size_t kTokens = 200;
constexpr int32_t kWindow = 16;

/// A sequence that has prefilled a text and generated some tokens, with its internal state.
struct Begun {
    Sequence sequence;
    const SequenceParts& state;
};

Begun begin(const Engine& engine, SequenceOptions options) {
    options.window = kWindow;
    options.cache_type_k = "f32";
    auto made = make_sequence(EngineAccess::state(engine), options);
    if (!made) throw std::runtime_error(made.error().message);
    const SequenceParts& state = **made;
    Begun begun{.sequence = Sequence(std::move(*made)), .state = state};
    test::append(begun.sequence, test::sample_tokens(engine, kTokens));
    test::generate(begun.sequence, 5);
    return begun;
}

std::vector<float> row(const ggml_tensor* rows, int64_t i, int64_t offset, int64_t n) {
    std::vector<float> result(static_cast<size_t>(n));
    ggml_backend_tensor_get(rows, result.data(), static_cast<size_t>(i * rows->ne[0] + offset) * sizeof(float),
                            result.size() * sizeof(float));
    return result;
}

/// Mean attention of a query head over the last `n` queries, computed by its definition, [n_slots].
std::vector<double> mean_attention(const SequenceParts& s, int32_t layer, int32_t head, int64_t n) {
    const auto& h = s.config.hparams();
    const Run run = s.cache.sliced.runs(layer)[static_cast<size_t>(head / h.n_group())];
    std::vector<double> mean(static_cast<size_t>(run.length));
    for (int64_t age = 0; age < n; age++) {
        const int64_t at = (s.cache.queries.next() - 1 - age + kWindow) % kWindow;
        const auto query = row(s.cache.queries.layer(layer), at, int64_t{head} * h.head_dim_k, h.head_dim_k);
        std::vector<double> weights;
        double sum = 0;
        for (int64_t slot = 0; slot < run.length - age; slot++) {
            const auto key = row(s.cache.sliced.buffer(layer).k(), run.begin + slot, 0, h.head_dim_k);
            double logit = 0;
            for (size_t d = 0; d < key.size(); d++)
                logit += static_cast<double>(query[d]) * static_cast<double>(key[d]);
            sum += weights.emplace_back(std::exp(logit * static_cast<double>(h.attention_scale)));
        }
        for (size_t i = 0; i < weights.size(); i++) mean[i] += weights[i] / sum / static_cast<double>(n);
    }
    return mean;
}

std::vector<double> expected(const SequenceParts& s, int64_t n) {
    std::vector<double> by_position(static_cast<size_t>(s.progress.n_tokens));
    for (int32_t layer = s.config.layout.sliced.n_layer / 2; layer < s.config.layout.sliced.n_layer; layer++) {
        for (int32_t head = 0; head < s.config.hparams().n_head; head++) {
            const auto positions = s.cache.sliced.positions(layer, head / s.config.hparams().n_group());
            const auto mean = mean_attention(s, layer, head, n);
            for (size_t i = 0; i < mean.size(); i++) {
                double& most = by_position[static_cast<size_t>(positions[i])];
                most = std::max(most, mean[i]);
            }
        }
    }
    return by_position;
}

class AttentionByPosition : public testing::TestWithParam<SequenceOptions> {};

TEST_P(AttentionByPosition, IsTheLargestOfTheUpperLayersHeads) {
    const auto engine = test::load("f32");
    const auto begun = begin(engine, GetParam());
    for (const int64_t n : {1, 4, kWindow}) {
        const auto actual = begun.sequence.attention_by_position(n);
        ASSERT_TRUE(actual) << actual.error().message;
        const auto wanted = expected(begun.state, n);
        ASSERT_EQ(actual->size(), wanted.size());
        for (size_t i = 0; i < wanted.size(); i++) EXPECT_NEAR((*actual)[i], wanted[i], 1e-4) << i;
        EXPECT_GT(std::ranges::max(*actual), 0.01F);
    }
}

INSTANTIATE_TEST_SUITE_P(
    Policies, AttentionByPosition,
    testing::Values(SequenceOptions{.policy = "cake", .budget = TokensPerLayer{64}},
                    SequenceOptions{.policy = "ada-snapkv", .budget = TokensPerLayer{64}},
                    SequenceOptions{.policy = "streaming-llm", .budget = TokensPerLayer{64}, .keep_queries = true},
                    SequenceOptions{.policy = "full", .max_tokens = 300, .keep_queries = true}),
    [](const auto& instance) {
        auto name = instance.param.policy;
        std::ranges::replace(name, '-', '_');
        return name;
    });

TEST(AttentionByPosition, IsKeptInASession) {
    const auto engine = test::load("f32");
    const auto begun = begin(engine, {.policy = "full", .max_tokens = 300, .keep_queries = true});
    const auto path = std::filesystem::temp_directory_path() / fmt::format("cake-attention-{}", ::getpid());
    ASSERT_TRUE(begun.sequence.save(path));
    const auto loaded = Sequence::load(engine, path);
    std::filesystem::remove(path);
    ASSERT_TRUE(loaded) << loaded.error().message;
    EXPECT_EQ(*loaded->attention_by_position(8), *begun.sequence.attention_by_position(8));
}

TEST(AttentionByPosition, IsRefusedWithoutQueriesAndForTooMany) {
    const auto engine = test::load("f32");
    const auto without = begin(engine, {.policy = "full", .max_tokens = 300}).sequence.attention_by_position(4);
    ASSERT_FALSE(without);
    EXPECT_NE(without.error().message.find("keep_queries"), std::string::npos) << without.error().message;
    const auto begun = begin(engine, {.policy = "cake", .budget = TokensPerLayer{64}});
    for (const int64_t n : {int64_t{-1}, int64_t{0}, int64_t{kWindow + 1}}) {
        const auto wrong = begun.sequence.attention_by_position(n);
        ASSERT_FALSE(wrong) << n;
        EXPECT_NE(wrong.error().message.find("1 to 16"), std::string::npos) << wrong.error().message;
    }
    EXPECT_FALSE(test::start(engine, {}).attention_by_position(4));
}

}  // namespace
}  // namespace cake
