// Properties of every model family: the bound, sessions, and complete sliding windows.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "cake/engine.hpp"
#include "cake/made_up.hpp"
#include "cake/policy.hpp"
#include "support/llama_reference.hpp"
#include "support/test_models.hpp"

namespace cake {
namespace {

using test::append;
using test::generate;
using test::load;
using test::start;

constexpr int64_t kPrompt = 600;

class Family : public testing::TestWithParam<std::string> {};

void expect_bound(const Engine& engine, const Sequence& sequence) {
    const auto memory = sequence.memory();
    EXPECT_LE(memory.kv_bytes_now, memory.kv_bytes_budget);
    EXPECT_LE(memory.kv_bytes_peak, memory.kv_bytes_budget + memory.layer_bytes);
    int64_t kept = 0;
    int64_t n_sliced = 0;
    const auto layers = sequence.layers();
    for (size_t i = 0; i < layers.size(); i++) {
        if (layers[i].n_head_kv == 0) {
            EXPECT_TRUE(layers[i].recurrent || layers[i].kv_layer);
            EXPECT_EQ(layers[i].kept, 0);
            EXPECT_TRUE(sequence.positions(static_cast<int32_t>(i), 0).empty());
            continue;
        }
        if (layers[i].window == 0) {
            n_sliced++;
            kept += layers[i].kept;
            continue;
        }
        // A sliding window holds the end of the text without gaps.
        EXPECT_EQ(layers[i].window, engine.info().n_swa);
        EXPECT_GE(layers[i].kept, std::min(layers[i].window, sequence.n_tokens()));
        EXPECT_LE(layers[i].kept, layers[i].window + layers[i].window / 16);
        const auto positions = sequence.positions(static_cast<int32_t>(i), 0);
        EXPECT_EQ(positions.back(), sequence.n_tokens() - 1);
        EXPECT_EQ(positions.back() - positions.front() + 1, std::ssize(positions));
    }
    EXPECT_EQ(n_sliced, engine.info().n_kv_layers - engine.info().n_swa_layers);
    EXPECT_LE(kept, memory.budget_tokens_per_layer * n_sliced);
    EXPECT_TRUE(std::ranges::all_of(sequence.logits(), [](float x) { return std::isfinite(x); }));
}

TEST_P(Family, HoldsTheBoundAtATwentiethOfTheCache) {
    const auto engine = load(GetParam(), 128);
    const auto tokens = test::sample_tokens(engine, kPrompt + 100);
    for (const auto* policy : {"cake", "snapkv", "h2o", "ada-snapkv"}) {
        SCOPED_TRACE(policy);
        auto sequence = start(engine, {.policy = policy, .budget = KvRatio{0.05}, .window = 8});
        append(sequence, std::span(tokens).first(kPrompt));
        EXPECT_EQ(sequence.memory().budget_tokens_per_layer, kPrompt / 20);
        expect_bound(engine, sequence);
        for (int64_t i = kPrompt; i < kPrompt + 90; i++) {
            ASSERT_TRUE(sequence.decode(tokens[static_cast<size_t>(i)]));
            expect_bound(engine, sequence);
        }
        append(sequence, std::span(tokens).last(10));
        expect_bound(engine, sequence);
    }
}

TEST_P(Family, ReadsInSegmentsAndTokenByTokenWhatItReadsAtOnce) {
    const auto engine = load(GetParam(), 64);
    const auto tokens = test::sample_tokens(engine, 300);
    const auto n_vocab = static_cast<size_t>(engine.info().n_vocab);
    const SequenceOptions options{.policy = "full", .cache_type_k = "f32", .cache_type_v = "f32", .max_tokens = 300};
    auto whole = start(engine, options);
    append(whole, tokens);
    auto in_parts = start(engine, options);
    append(in_parts, std::span(tokens).first(10));
    append(in_parts, std::span(tokens).subspan(10, 150));
    for (const Token t : std::span(tokens).subspan(160)) ASSERT_TRUE(in_parts.decode(t));
    EXPECT_LT(test::mean_kl(whole.logits(), in_parts.logits(), n_vocab), 1e-6);
}

TEST_P(Family, GoesOnFromASavedSession) {
    const auto engine = load(GetParam());
    const auto tokens = test::sample_tokens(engine, 300);
    const std::string path = testing::TempDir() + "/family_" + GetParam() + ".cake";
    for (const auto* policy : {"cake", "full"}) {
        SCOPED_TRACE(policy);
        SequenceOptions options{.policy = policy, .window = 8, .max_tokens = 400};
        if (options.policy == "cake") options.budget = TokensPerLayer{40};
        auto sequence = start(engine, options);
        append(sequence, tokens);
        generate(sequence, 30);
        const auto saved = sequence.save(path);
        ASSERT_TRUE(saved) << saved.error().message;
        auto loaded = Sequence::load(engine, path);
        ASSERT_TRUE(loaded) << loaded.error().message;
        EXPECT_EQ(generate(*loaded, 30), generate(sequence, 30));
        expect_bound(engine, *loaded);
    }
    std::filesystem::remove(path);
}

/// Sequences that share a prefill, a copy of one, one that goes on from a text read before, and a batch of all: each as
/// if it were alone.
TEST_P(Family, AnswersInCompanyAsAlone) {
    const auto engine = load(GetParam(), 64);
    const auto tokens = test::sample_tokens(engine, 240);
    const SequenceOptions options{.policy = "cake", .budget = TokensPerLayer{48}, .window = 8};
    auto alone = start(engine, options);
    append(alone, tokens);

    std::vector<Sequence> together;
    for (int i = 0; i < 2; i++) together.push_back(start(engine, options));
    ASSERT_TRUE(append_to_all(together, tokens));
    auto copy = fork(together[0]);
    ASSERT_TRUE(copy) << copy.error().message;
    together.push_back(std::move(*copy));
    std::vector<Sequence> branches;
    branches.push_back(start(engine, options));
    auto base = branch_base(engine, branches, 240);
    ASSERT_TRUE(base) << base.error().message;
    append(*base, std::span(tokens).first(130));
    ASSERT_TRUE(branch_to_all(*base, branches, std::span(tokens).subspan(130)));
    together.push_back(std::move(branches[0]));

    std::vector<Sequence*> batch;
    for (auto& sequence : together) batch.push_back(&sequence);
    for (const Token token : std::span(tokens).first(20)) {
        ASSERT_TRUE(alone.decode(token));
        ASSERT_TRUE(decode_each(batch, std::vector<Token>(batch.size(), token)));
    }
    const auto n_vocab = static_cast<size_t>(engine.info().n_vocab);
    for (const auto& sequence : together) {
        EXPECT_EQ(sequence.n_tokens(), alone.n_tokens());
        EXPECT_LT(test::mean_kl(alone.logits(), sequence.logits(), n_vocab), 1e-6);
    }
}

/// A sequence decodes with the graph of the token before, and a copy of it with a new graph: the logits are the same,
/// also where attention gets more tasks (from 512 slots on), and after a text in between.
TEST_P(Family, DecodesWithOneGraphWhatNewGraphsGive) {
    const auto engine = load(GetParam(), 64);
    const auto tokens = test::sample_tokens(engine, 540);
    SequenceOptions full{.policy = kFullPolicy};
    full.max_tokens = std::ssize(tokens);
    for (const auto& options : {full, {.policy = "cake", .budget = TokensPerLayer{48}, .window = 8}}) {
        auto sequence = start(engine, options);
        append(sequence, std::span(tokens).first(505));
        for (size_t i = 505; i < 535; i++) {
            if (i == 520) {
                append(sequence, std::span(tokens).subspan(i, 3));
                i += 3;
            }
            auto copy = fork(sequence);
            ASSERT_TRUE(copy) << copy.error().message;
            ASSERT_TRUE(copy->decode(tokens[i]));
            ASSERT_TRUE(sequence.decode(tokens[i]));
            ASSERT_TRUE(std::ranges::equal(sequence.logits(), copy->logits())) << options.policy << ", token " << i;
        }
    }
}

TEST_P(Family, ComputesWithGgmlsAttentionWhatItDoesWithOurs) {
    const std::string path = test::model_path(GetParam());
    const auto ours = load(GetParam());
    auto ggmls = Engine::load(path, {.threads = 2, .ggml_attention = true});
    ASSERT_TRUE(ggmls) << ggmls.error().message;
    const auto tokens = test::sample_tokens(ours, kPrompt);
    std::vector<Sequence> sequences;
    for (const Engine* engine : {&ours, static_cast<const Engine*>(&*ggmls)}) {
        sequences.push_back(start(*engine, {.policy = "cake",
                                            .budget = TokensPerLayer{60},
                                            .window = 16,
                                            .cache_type_k = "f32",
                                            .cache_type_v = "f32"}));
        append(sequences.back(), tokens);
    }
    const auto layers = sequences[0].layers();
    for (size_t i = 0; i < layers.size(); i++) {
        const auto other = sequences[1].layers()[i];
        ASSERT_EQ(layers[i].dispersion.has_value(), layers[i].window == 0 && layers[i].n_head_kv > 0);
        if (!layers[i].dispersion) continue;
        // ggml computes the attention of a prefill in half precision, which affects the hidden states of later layers.
        EXPECT_NEAR(*layers[i].dispersion, *other.dispersion, 1e-2 * *layers[i].dispersion);
        EXPECT_NEAR(*layers[i].shift, *other.shift, 2e-2 * *layers[i].shift);
    }
}

INSTANTIATE_TEST_SUITE_P(All, Family, testing::ValuesIn(test::family_names()), test::family_test_name);

TEST(LearnedPositions, EndWithTheContext) {
    const auto engine = load("gpt2");
    const int32_t n_ctx = engine.info().n_ctx_train;
    auto tokens = test::sample_tokens(engine, static_cast<size_t>(n_ctx) + 1);
    auto sequence = start(engine, {.budget = TokensPerLayer{64}, .window = 8});
    const auto read = sequence.append(tokens);
    ASSERT_FALSE(read);
    EXPECT_NE(read.error().message.find("2048 positions"), std::string::npos) << read.error().message;
    append(sequence, std::span(tokens).first(static_cast<size_t>(n_ctx) - 1));
    EXPECT_TRUE(sequence.decode(tokens[0]));
    EXPECT_FALSE(sequence.decode(tokens[0]));
}

TEST(Windows, AreNotMadeUpBeyondTheContext) {
    const auto engine = load("gemma3");
    auto sequence = start(engine, {.budget = TokensPerLayer{40}, .window = 8, .max_tokens = 50});
    EXPECT_FALSE(make_up(sequence, 60));
    EXPECT_TRUE(make_up(sequence, 50));
}

class BudgetOfBytes : public testing::TestWithParam<std::string> {};

/// In Gemma 4, a token takes more bytes in a layer with a sliding window than in another.
TEST_P(BudgetOfBytes, IncludesSlidingWindows) {
    const auto engine = load(GetParam());
    const auto& info = engine.info();
    const auto token_bytes = *engine.kv_token_bytes("f16", "f16");
    const auto tokens = test::sample_tokens(engine, kPrompt);
    const uint64_t windows = static_cast<uint64_t>(info.n_swa_layers) * 68 * token_bytes.swa_layer;
    const uint64_t sliced = static_cast<uint64_t>(info.n_kv_layers - info.n_swa_layers) * 100 * token_bytes.layer;
    auto sequence = start(engine, {.budget = KvBytes{windows + sliced}});
    append(sequence, tokens);
    EXPECT_EQ(sequence.memory().budget_tokens_per_layer, 100);
    EXPECT_EQ(sequence.memory().kv_bytes_budget, windows + sliced);
    const auto refused = engine.sequence({.budget = KvBytes{windows}});
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().message.find("bytes"), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(Windows, BudgetOfBytes, testing::Values("gemma3", "gemma4"), test::family_test_name);

/// The last layers of Gemma 4 need only the tokens whose logits are read, since they have no K and V of their own.
TEST(SharedLayers, GiveTheLogitsOfTheLastTokenAsOfAll) {
    const auto engine = load("gemma4");
    const auto tokens = test::sample_tokens(engine, 300);
    auto last = start(engine, {.policy = kFullPolicy});
    append(last, tokens);
    auto all = start(engine, {.policy = kFullPolicy});
    ASSERT_TRUE(all.append(tokens, {.all_logits = true}));
    const auto n_vocab = static_cast<size_t>(engine.info().n_vocab);
    const auto expected = all.logits().last(n_vocab);
    for (size_t i = 0; i < n_vocab; i++)
        EXPECT_NEAR(last.logits()[i], expected[i], 1e-3F * std::abs(expected[i]) + 1e-4F);
    EXPECT_EQ(last.layers()[6].kv_layer, 4);
    EXPECT_EQ(last.layers()[11].kv_layer, 5);
    EXPECT_FALSE(last.layers()[5].kv_layer);
}

}  // namespace
}  // namespace cake
