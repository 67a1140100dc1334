// Compares logits with those of llama.cpp on the same file, token by token.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>

#include "cake/engine.hpp"
#include "engine/sequence_parts.hpp"
#include "parity/comparison.hpp"
#include "support/llama_reference.hpp"
#include "support/test_models.hpp"

namespace cake {
namespace {

using test::expect_parity;
using test::full_logits;
using test::llama_logits;
using test::mean_kl;
using test::model_path;

struct Case {
    std::string model;
    double most_kl;
};

class Parity : public testing::TestWithParam<Case> {};

TEST_P(Parity, LogitsAreLlamaCppsOver300Tokens) {
    const std::string path = model_path(GetParam().model);
    auto engine = Engine::load(path, {.threads = 1});
    ASSERT_TRUE(engine) << engine.error().message;
    const auto tokens = test::sample_tokens(*engine, 300);
    expect_parity(path, tokens, GetParam().most_kl, true);
    expect_parity(path, tokens, GetParam().most_kl, false);
}

std::string name_of(const testing::TestParamInfo<Case>& instance) {
    std::string name = instance.param.model;
    std::ranges::replace(name, '-', '_');
    return name;
}

/// Every quantisation type that llama-quantize writes (tests/support/make_models). The IQ1_S file also contains IQ1_M.
std::vector<Case> llama_quantize_types() {
    std::vector<Case> cases;
    for (const auto* type : {"IQ1_S",  "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M",  "IQ3_XXS", "IQ3_XS", "IQ3_S",  "IQ3_M",
                             "IQ4_NL", "IQ4_XS",  "Q1_0",   "Q2_0",  "TQ1_0",  "TQ2_0",   "Q2_K",   "Q2_K_S", "Q3_K_S",
                             "Q3_K_M", "Q3_K_L",  "Q4_0",   "Q4_1",  "Q4_K_S", "Q4_K_M",  "Q5_0",   "Q5_1",   "Q5_K_S",
                             "Q5_K_M", "Q6_K",    "Q8_0",   "F16",   "BF16",   "MXFP4",   "NVFP4"})
        cases.push_back({std::string("wide-") + type, 1e-4});
    return cases;
}

INSTANTIATE_TEST_SUITE_P(WeightTypes, Parity,
                         testing::Values(Case{"f32", 1e-4}, Case{"f16", 1e-4}, Case{"q8_0", 1e-4}, Case{"q4_0", 1e-3}),
                         name_of);
INSTANTIATE_TEST_SUITE_P(QuantizedBy, Parity, testing::ValuesIn(llama_quantize_types()), name_of);
INSTANTIATE_TEST_SUITE_P(Variants, Parity,
                         testing::Values(Case{"tied", 1e-4}, Case{"rope_freqs", 1e-4}, Case{"bias", 1e-4},
                                         Case{"bias_q4_0", 1e-3}, Case{"rope_scaled", 1e-4},
                                         Case{"rope_scaled_old", 1e-4}),
                         name_of);

/// Products with 4-bit weights depend on the layout: plain or repacked here, AMX on other machines.
TEST(Layouts, AreComparedWithTheSameOfLlamaCpp) {
    const std::string path = model_path("wide-Q4_0");
    auto engine = Engine::load(path, {.threads = 1});
    ASSERT_TRUE(engine) << engine.error().message;
    const auto tokens = test::sample_tokens(*engine, 100);
    for (const bool repack : {true, false}) {
        SCOPED_TRACE(repack);
        const auto ours = full_logits(path, tokens, {.threads = 2, .repack = repack, .ggml_attention = true}, "f16");
        EXPECT_EQ(llama_logits(path, tokens, {.repack = repack}), ours);
    }
}

TEST(HalfPrecision, OfAttentionsProductsIsHarmlessOnRealText) {
    const std::string path = std::string(CAKE_MODELS) + "/cake-mini.gguf";
    std::ifstream file(std::string(CAKE_MODELS) + "/document.txt");
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    auto engine = Engine::load(path, {.threads = 1});
    ASSERT_TRUE(engine) << engine.error().message;
    auto tokens = *engine->tokenize(text);
    tokens.resize(std::min<size_t>(tokens.size(), 4000));
    const auto n_vocab = static_cast<size_t>(engine->info().n_vocab);
    const auto exact = full_logits(path, tokens, {.threads = 2}, "f32");
    for (const auto* type : {"f16", "bf16", "q8_0", "q4_0"}) {
        const double ours = mean_kl(exact, full_logits(path, tokens, {.threads = 2}, type), n_vocab);
        const double ggmls =
            mean_kl(exact, full_logits(path, tokens, {.threads = 2, .ggml_attention = true}, type), n_vocab);
        RecordProperty(type, fmt::format("{:.3g} where ggml has {:.3g}", ours, ggmls));
        // Most of the error comes from the cache type, not from the products.
        EXPECT_LT(ours, 1.25 * ggmls) << type;
    }
    EXPECT_LT(mean_kl(exact, full_logits(path, tokens, {.threads = 2}, "f16"), n_vocab), 1e-5);
}

/// Models whose hidden states are about 1 or about a million, which is beyond the range of f16.
class HiddenStates : public testing::TestWithParam<std::string> {};

TEST_P(HiddenStates, OfALongTextGiveLlamaCppsLogits) {
    const std::string path = model_path(GetParam());
    auto engine = Engine::load(path, {.threads = 2});
    ASSERT_TRUE(engine) << engine.error().message;
    const auto tokens = test::sample_tokens(*engine, 300);
    const auto reference = llama_logits(path, tokens);
    for (const size_t most_f32_bytes : {size_t{1} << 40U, size_t{0}}) {
        auto state = make_sequence(EngineAccess::state(*engine), {.policy = "full", .max_tokens = 300});
        ASSERT_TRUE(state) << state.error().message;
        (*state)->max_hidden_f32_bytes = most_f32_bytes;
        Sequence sequence(std::move(*state));
        ASSERT_TRUE(sequence.append(tokens, {.progress = {}, .all_logits = true}));
        EXPECT_EQ(sequence.memory().hidden_bytes_peak, tokens.size() * 128 * (most_f32_bytes == 0 ? 2 : 4));
        const double kl = mean_kl(reference, sequence.logits(), static_cast<size_t>(engine->info().n_vocab));
        RecordProperty(most_f32_bytes == 0 ? "bf16" : "f32", fmt::format("{:.3g}", kl));
        EXPECT_LT(kl, 1e-4);
    }
}

INSTANTIATE_TEST_SUITE_P(, HiddenStates, testing::Values("f32", "large_residual"),
                         [](const auto& instance) { return instance.param; });

TEST(Eviction, WhatIsLeftAnswersAsLlamaCppDoesWithTheSameTokensDropped) {
    const std::string path = model_path("f32");
    auto engine = Engine::load(path, {.threads = 2, .n_batch = 64});
    ASSERT_TRUE(engine) << engine.error().message;
    const auto tokens = test::sample_tokens(*engine, 400);
    auto sequence =
        engine->sequence({.policy = "streaming-llm", .budget = TokensPerLayer{64}, .window = 16, .evict_interval = 1});
    ASSERT_TRUE(sequence) << sequence.error().message;
    ASSERT_TRUE(sequence->append(std::span(tokens).first(399)));
    ASSERT_TRUE(sequence->decode(tokens[399]));
    // A layer holds 64 tokens: the first 4 and the last 59 of the prompt, and the new one.
    const auto n_vocab = static_cast<size_t>(engine->info().n_vocab);
    const auto reference = test::llama_logits_without(path, std::span(tokens).first(399), 4, 399 - 59, tokens[399]);
    EXPECT_LT(mean_kl(reference, sequence->logits(), n_vocab), 1e-5);
    const auto whole = llama_logits(path, tokens);
    EXPECT_GT(mean_kl(std::span(whole).last(n_vocab), sequence->logits(), n_vocab), 1e-4)
        << "the dropped tokens matter";
}

/// A trained model and a book, if the folder of shared data exists.
class TrainedModel : public testing::TestWithParam<Case> {};

TEST_P(TrainedModel, LogitsAreLlamaCppsOver300TokensOfABook) {
    const char* shared = std::getenv("CAKE_SHARED");
    if (shared == nullptr) GTEST_SKIP() << "CAKE_SHARED does not name a folder with data/models/stories260K.gguf";
    const std::string source = std::string(shared) + "/data/models/stories260K.gguf";
    std::ifstream book(std::string(shared) + "/data/books/moby_dick_pg2701.txt");
    ASSERT_TRUE(book && std::filesystem::exists(source));
    const std::string text{std::istreambuf_iterator<char>(book), {}};

    const std::string path = testing::TempDir() + "/stories_" + GetParam().model + ".gguf";
    const std::string quantize =
        "llama-quantize " + source + " " + path + " " + GetParam().model + " 2 >/dev/null 2>&1";
    ASSERT_EQ(std::system(quantize.c_str()), 0) << quantize;
    auto engine = Engine::load(path, {.threads = 1});
    ASSERT_TRUE(engine) << engine.error().message;
    auto tokens = engine->tokenize(text.substr(4000, 4000));
    ASSERT_TRUE(tokens && tokens->size() > 300);
    tokens->resize(300);
    expect_parity(path, *tokens, GetParam().most_kl, true);
    std::filesystem::remove(path);
}

INSTANTIATE_TEST_SUITE_P(WeightTypes, TrainedModel,
                         testing::Values(Case{"F32", 1e-4}, Case{"Q8_0", 1e-4}, Case{"Q4_0", 1e-3}),
                         [](const auto& instance) { return instance.param.model; });

}  // namespace
}  // namespace cake
