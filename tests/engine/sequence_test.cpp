#include "cake/sequence.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <future>
#include <map>
#include <stdexcept>

#include "cake/engine.hpp"
#include "cake/policy.hpp"
#include "support/llama_reference.hpp"
#include "support/test_models.hpp"

namespace cake {
namespace {

using test::mean_kl;
using test::model_path;

Engine load(const std::string& name, int32_t n_batch = 512) {
    auto engine = Engine::load(model_path(name), {.threads = 2, .n_batch = n_batch});
    if (!engine) throw std::runtime_error(engine.error().message);
    return std::move(*engine);
}

Sequence start(const Engine& engine, const SequenceOptions& options) {
    auto sequence = engine.sequence(options);
    if (!sequence) throw std::runtime_error(sequence.error().message);
    return std::move(*sequence);
}

void append(Sequence& sequence, std::span<const Token> tokens) {
    const auto read = sequence.append(tokens);
    ASSERT_TRUE(read) << read.error().message;
}

std::vector<float> logits(const Sequence& sequence) {
    return {sequence.logits().begin(), sequence.logits().end()};
}

/// With f32 K/V, so that ways to compute the same thing differ by float32 rounding alone: ggml sums half-precision
/// values in half precision.
SequenceOptions full(int64_t max_tokens) {
    return {.policy = "full", .cache_type_k = "f32", .cache_type_v = "f32", .max_tokens = max_tokens};
}

TEST(Prefill, ChunksOfAnySizeGiveTheSameLogits) {
    const auto whole = load("f32");
    const auto tokens = test::sample_tokens(whole, 300);
    auto reference = start(whole, full(300));
    append(reference, tokens);
    for (const int32_t n_batch : {1, 7, 31, 64, 299}) {
        SCOPED_TRACE(n_batch);
        const auto engine = load("f32", n_batch);
        auto sequence = start(engine, full(300));
        append(sequence, tokens);
        EXPECT_LT(mean_kl(reference.logits(), sequence.logits(), sequence.logits().size()), 1e-6);
    }
}

TEST(Prefill, TheLastLogitsAreThoseOfAllLogits) {
    const auto engine = load("f32");
    const auto tokens = test::sample_tokens(engine, 100);
    auto last = start(engine, full(100));
    append(last, tokens);
    auto all = start(engine, full(100));
    ASSERT_TRUE(all.append(tokens, {.progress = {}, .all_logits = true}));
    const auto n_vocab = static_cast<size_t>(engine.info().n_vocab);
    ASSERT_EQ(all.logits().size(), n_vocab * 100);
    EXPECT_LT(mean_kl(last.logits(), all.logits().last(n_vocab), n_vocab), 1e-7);
}

TEST(Decode, TokenByTokenIsThePrefillOfAll) {
    const auto engine = load("f32");
    const auto tokens = test::sample_tokens(engine, 60);
    auto at_once = start(engine, full(60));
    append(at_once, tokens);
    auto one_by_one = start(engine, full(60));
    append(one_by_one, std::span(tokens).first(20));
    for (const Token token : std::span(tokens).subspan(20)) ASSERT_TRUE(one_by_one.decode(token));
    EXPECT_LT(mean_kl(at_once.logits(), one_by_one.logits(), at_once.logits().size()), 1e-6);
}

TEST(Append, SegmentsOfAFullCacheAreTheWholeText) {
    const auto engine = load("f32");
    const auto tokens = test::sample_tokens(engine, 200);
    auto at_once = start(engine, full(200));
    append(at_once, tokens);
    auto in_parts = start(engine, full(200));
    append(in_parts, std::span(tokens).first(90));
    append(in_parts, std::span(tokens).subspan(90, 5));
    append(in_parts, std::span(tokens).subspan(95));
    EXPECT_LT(mean_kl(at_once.logits(), in_parts.logits(), at_once.logits().size()), 1e-6);
}

TEST(Append, ABudgetThatHoldsThePromptEvictsNothing) {
    const auto engine = load("f32");
    const auto tokens = test::sample_tokens(engine, 128);
    auto reference = start(engine, full(200));
    append(reference, tokens);
    auto sequence =
        start(engine, {.policy = "cake", .budget = TokensPerLayer{128}, .cache_type_k = "f32", .cache_type_v = "f32"});
    append(sequence, tokens);
    EXPECT_EQ(logits(reference), logits(sequence));
    for (const auto& layer : sequence.layers()) EXPECT_EQ(layer.kept, 128);
}

TEST(Append, InSegmentsOfAFullCacheIsTheWholeText) {
    const auto engine = load("f32");
    const auto tokens = test::sample_tokens(engine, 200);
    auto at_once = start(engine, full(200));
    append(at_once, tokens);
    for (const int64_t segment : {1, 7, 64, 199, 200, 500}) {
        SCOPED_TRACE(segment);
        auto in_segments = start(engine, full(200));
        int64_t last = 0;
        const auto read = in_segments.append(tokens, {.progress =
                                                          [&](int64_t done, int64_t total) {
                                                              EXPECT_GE(done, last);
                                                              EXPECT_EQ(total, 200);
                                                              last = done;
                                                              return true;
                                                          },
                                                      .segment = segment});
        ASSERT_TRUE(read) << read.error().message;
        EXPECT_EQ(last, 200);
        EXPECT_LT(mean_kl(at_once.logits(), in_segments.logits(), at_once.logits().size()), 1e-6);
    }
    EXPECT_FALSE(start(engine, full(200)).append(tokens, {.segment = -1}));
    EXPECT_FALSE(start(engine, full(200)).append(tokens, {.all_logits = true, .segment = 10}));
}

TEST(Append, SegmentsAreTheSameWhoeverCutsThem) {
    const auto engine = load("f32", 64);
    const auto tokens = test::sample_tokens(engine, 700);
    const SequenceOptions options{.budget = TokensPerLayer{96}};
    auto by_option = start(engine, options);
    ASSERT_TRUE(by_option.append(tokens, {.segment = 150}));
    auto by_hand = start(engine, options);
    for (size_t begin = 0; begin < tokens.size(); begin += 150)
        append(by_hand, std::span(tokens).subspan(begin, std::min<size_t>(150, tokens.size() - begin)));
    EXPECT_EQ(logits(by_option), logits(by_hand));
    std::vector<Sequence> together;
    together.push_back(start(engine, {.policy = "h2o", .budget = TokensPerLayer{64}}));
    together.push_back(start(engine, options));
    ASSERT_TRUE(append_to_all(together, tokens, {.segment = 150}));
    EXPECT_EQ(logits(together[1]), logits(by_option));
}

/// Peaks of everything that is accounted.
uint64_t accounted_peak(const Sequence& sequence) {
    const auto memory = sequence.memory();
    return memory.kv_bytes_peak + memory.hidden_bytes_peak + memory.compute_bytes_peak;
}

TEST(Append, ALongStreamTakesNoMoreMemoryThanAShortOne) {
    const auto engine = load("f32", 64);
    const auto tokens = test::sample_tokens(engine, 12000);
    for (const auto* policy : {"cake", "h2o", "ada-snapkv", "streaming-llm"}) {
        SCOPED_TRACE(policy);
        const auto peak = [&](size_t n) {
            auto sequence = start(engine, {.policy = policy, .budget = TokensPerLayer{64}});
            const auto read = sequence.append(std::span(tokens).first(n), {.segment = 256});
            EXPECT_TRUE(read);
            EXPECT_LE(sequence.memory().kv_bytes_now, sequence.memory().kv_bytes_budget);
            return accounted_peak(sequence);
        };
        // The heads of a layer may come to hold unequally many tokens, so the layer in flight is not of one size.
        const auto of_short = static_cast<double>(peak(1500));
        EXPECT_LT(static_cast<double>(peak(tokens.size())), 1.1 * of_short);
    }
}

TEST(Decode, AGenerationOfAnyLengthHoldsTheBoundAndTakesNoMoreMemory) {
    const auto engine = load("f32", 64);
    const auto tokens = test::sample_tokens(engine, 300);
    for (const auto* policy : {"cake", "h2o", "ada-snapkv", "keydiff"}) {
        SCOPED_TRACE(policy);
        auto sequence = start(engine, {.policy = policy, .budget = TokensPerLayer{64}, .evict_interval = 8});
        append(sequence, tokens);
        uint64_t peak = 0;
        int64_t n = 0;
        for ([[maybe_unused]] const Token token : sequence.generate({.max_tokens = 3000, .ignore_eos = true})) {
            EXPECT_LE(sequence.memory().kv_bytes_now, sequence.memory().kv_bytes_budget);
            if (++n == 1000) peak = accounted_peak(sequence);
        }
        EXPECT_EQ(n, 3000);
        EXPECT_EQ(sequence.n_tokens(), 3299) << "the last one is not read before it has to be";
        EXPECT_EQ(accounted_peak(sequence), peak);
    }
}

TEST(Append, SeveralSequencesReadATextAsEachDoesAlone) {
    const auto engine = load("f32", 64);
    const auto tokens = test::sample_tokens(engine, 500);
    const std::vector<SequenceOptions> options = {{.policy = "streaming-llm", .budget = TokensPerLayer{64}},
                                                  {.policy = "full", .max_tokens = 600},
                                                  {.policy = "cake", .budget = TokensPerLayer{96}},
                                                  {.policy = "cake", .budget = TokensPerLayer{64}},
                                                  {.policy = "cake:uniform", .budget = TokensPerLayer{96}},
                                                  {.policy = "pyramidkv", .budget = TokensPerLayer{600}}};
    std::vector<Sequence> together;
    for (const auto& o : options) together.push_back(start(engine, o));
    const auto read = append_to_all(together, tokens);
    ASSERT_TRUE(read) << read.error().message;
    for (size_t i = 0; i < options.size(); i++) {
        SCOPED_TRACE(i);
        auto alone = start(engine, options[i]);
        append(alone, tokens);
        EXPECT_EQ(together[i].n_tokens(), 500);
        EXPECT_EQ(logits(together[i]), logits(alone));
        for (int n = 0; n < 40; n++) {
            ASSERT_TRUE(alone.decode(tokens[static_cast<size_t>(n)]));
            ASSERT_TRUE(together[i].decode(tokens[static_cast<size_t>(n)]));
        }
        EXPECT_EQ(logits(together[i]), logits(alone));
        for (size_t layer = 0; layer < alone.layers().size(); layer++) {
            EXPECT_EQ(together[i].layers()[layer].kept, alone.layers()[layer].kept);
            EXPECT_EQ(together[i].layers()[layer].preference.has_value(), alone.layers()[layer].preference.has_value());
        }
    }
    EXPECT_FALSE(append_to_all(together, tokens)) << "they are not empty any more";
    EXPECT_FALSE(append_to_all({}, tokens));
    std::vector<Sequence> unlike;
    unlike.push_back(start(engine, {.window = 16}));
    unlike.push_back(start(engine, {.window = 17}));
    EXPECT_FALSE(append_to_all(unlike, tokens));
}

TEST(Append, TurnsAfterDecodingUseTheWholeBudgetInEveryLayer) {
    const auto engine = load("f32");
    const auto tokens = test::sample_tokens(engine, 1000);
    auto sequence = start(engine, {.policy = "snapkv", .budget = TokensPerLayer{256}, .evict_interval = 16});
    append(sequence, tokens);
    for (int turn = 0; turn < 6; turn++) {
        for (int i = 0; i < 16; i++) ASSERT_TRUE(sequence.decode(tokens[static_cast<size_t>(i)]));
        append(sequence, std::span(tokens).first(100));
        for (const auto& layer : sequence.layers()) EXPECT_GE(layer.kept, 256 - 16 - 1);
    }
}

TEST(Generate, InPartsIsAtOnceAndATurnReadsTheLastTokenToo) {
    const auto engine = load("f32");
    const auto tokens = test::sample_tokens(engine, 60);
    const auto generate = [](Sequence& sequence, int64_t n) {
        std::vector<Token> result;
        for (const Token t : sequence.generate({.max_tokens = n, .ignore_eos = true, .sampling = {.temperature = 0}}))
            result.push_back(t);
        return result;
    };
    auto at_once = start(engine, full(200));
    append(at_once, tokens);
    const auto whole = generate(at_once, 10);
    auto in_parts = start(engine, full(200));
    append(in_parts, tokens);
    auto parts = generate(in_parts, 5);
    parts.append_range(generate(in_parts, 5));
    EXPECT_EQ(parts, whole);

    append(in_parts, std::span(tokens).first(7));
    auto read = tokens;
    read.append_range(whole);
    read.append_range(std::span(tokens).first(7));
    EXPECT_EQ(in_parts.n_tokens(), static_cast<int64_t>(read.size()));
    auto reference = start(engine, full(200));
    append(reference, read);
    EXPECT_LT(mean_kl(reference.logits(), in_parts.logits(), reference.logits().size()), 1e-6);
}

TEST(Engine, SequencesOnSeveralThreadsGiveWhatTheyGiveAlone) {
    const auto engine = load("f32", 64);
    const auto tokens = test::sample_tokens(engine, 300);
    const auto work = [&] {
        auto sequence = start(engine, {.budget = TokensPerLayer{64}});
        append(sequence, tokens);
        for (int i = 0; i < 20; i++) EXPECT_TRUE(sequence.decode(tokens[static_cast<size_t>(i)]));
        return logits(sequence);
    };
    const auto alone = work();
    std::vector<std::future<std::vector<float>>> threads;
    for (int i = 0; i < 3; i++) threads.push_back(std::async(std::launch::async, work));
    for (auto& thread : threads) EXPECT_EQ(thread.get(), alone);
}

struct Kept {
    std::string policy;
    std::string cache_type = "f16";
};

class Bound : public testing::TestWithParam<Kept> {};

TEST_P(Bound, HoldsInPrefillDecodingAndFurtherSegments) {
    const auto engine = load("f32", 64);
    const auto tokens = test::sample_tokens(engine, 1500);
    auto sequence = start(engine, {.policy = GetParam().policy,
                                   .budget = TokensPerLayer{96},
                                   .window = 16,
                                   .cache_type_k = GetParam().cache_type,
                                   .cache_type_v = GetParam().cache_type});
    const auto expect_bound = [&] {
        const auto memory = sequence.memory();
        EXPECT_LE(memory.kv_bytes_now, memory.kv_bytes_budget);
        EXPECT_LE(memory.kv_bytes_peak, memory.kv_bytes_budget + memory.layer_bytes);
        int64_t kept = 0;
        for (const auto& layer : sequence.layers()) {
            EXPECT_GE(layer.kept, std::min<int64_t>(16, sequence.n_tokens()));
            kept += layer.kept;
        }
        EXPECT_LE(kept, 96 * engine.info().n_layer);
        EXPECT_TRUE(std::ranges::all_of(sequence.logits(), [](float x) { return std::isfinite(x); }));
    };
    append(sequence, std::span(tokens).first(1000));
    expect_bound();
    for (int i = 0; i < 200; i++) {
        ASSERT_TRUE(sequence.decode(tokens[static_cast<size_t>(i)]));
        expect_bound();
    }
    append(sequence, std::span(tokens).subspan(1000, 3));
    expect_bound();
    append(sequence, std::span(tokens).subspan(1003));
    expect_bound();
    EXPECT_EQ(sequence.n_tokens(), 1700);
}

INSTANTIATE_TEST_SUITE_P(Policies, Bound,
                         testing::Values(Kept{"cake"}, Kept{"snapkv"}, Kept{"pyramidkv"}, Kept{"streaming-llm"},
                                         Kept{"h2o"}, Kept{"tova"}, Kept{"knorm"}, Kept{"keydiff"}, Kept{"ada-snapkv"},
                                         Kept{"cake:preference-heads"}, Kept{"tova:adaptive-heads"},
                                         Kept{"cake", "q8_0"}, Kept{"cake", "q4_0"}, Kept{"cake", "f32"},
                                         Kept{"cake", "bf16"}),
                         [](const auto& instance) {
                             std::string name = instance.param.policy + "_" + instance.param.cache_type;
                             std::ranges::replace_if(name, [](char c) { return c == '-' || c == ':'; }, '_');
                             return name;
                         });

TEST(Combinations, EveryScorerAllocatorAndCacheTypeGeneratesWithinTheBound) {
    const auto engine = load("f32", 64);
    const auto tokens = test::sample_tokens(engine, 260);
    for (const auto& scorer : scorer_names()) {
        for (const auto& allocator : allocator_names()) {
            for (const auto* type : {"f32", "f16", "bf16", "q8_0", "q4_0"}) {
                SCOPED_TRACE(scorer.name + " " + allocator.name + " " + type);
                auto sequence = start(engine, {.budget = TokensPerLayer{48},
                                               .scorer = scorer.name,
                                               .allocator = allocator.name,
                                               .window = 8,
                                               .cache_type_k = type,
                                               .cache_type_v = type});
                append(sequence, std::span(tokens).first(200));
                size_t n = 0;
                for ([[maybe_unused]] const Token token :
                     sequence.generate({.max_tokens = 24, .ignore_eos = true, .sampling = {.temperature = 0}}))
                    n++;
                EXPECT_EQ(n, 24U) << sequence.error().message;
                append(sequence, std::span(tokens).subspan(200));
                ASSERT_TRUE(sequence.decode(tokens[0]));
                int64_t kept = 0;
                for (const auto& layer : sequence.layers()) kept += layer.kept;
                EXPECT_LE(kept, 48 * engine.info().n_layer);
                EXPECT_GE(kept, 40 * engine.info().n_layer) << "the budget is there to be used";
                EXPECT_LE(sequence.memory().kv_bytes_now, sequence.memory().kv_bytes_budget);
                EXPECT_TRUE(std::ranges::all_of(sequence.logits(), [](float x) { return std::isfinite(x); }));
            }
        }
    }
}

/// Makes a scorer known whose scores `score` gives, once; tests of one process may ask again.
void know(const std::string& name, ScorerReads reads, std::function<std::vector<float>(const ScorerInput&)> score) {
    const auto known = scorer_names();
    if (std::ranges::contains(known, name, &Named::name)) return;
    const auto added = add_scorer({.name = name, .summary = "of a test", .reads = reads, .score = std::move(score)});
    if (!added) throw std::runtime_error(added.error().message);
}

/// What a scorer was shown last of each layer and KV head.
struct Shown {
    std::vector<float> sum;
    std::vector<float> mean;
};
std::map<std::pair<int32_t, int32_t>, Shown>& shown() {
    static std::map<std::pair<int32_t, int32_t>, Shown> inputs;
    return inputs;
}

SequenceOptions probe(int64_t budget, int32_t window) {
    know("probe", {.window = true, .all_queries = true}, [](const ScorerInput& input) {
        const auto& keys = input.scored();
        shown()[{input.layer, input.head}] = {.sum = {keys.sum.begin(), keys.sum.end()},
                                              .mean = {keys.mean.begin(), keys.mean.end()}};
        return std::vector<float>(keys.positions.size());
    });
    return {.policy = "probe:uniform",
            .budget = TokensPerLayer{budget},
            .window = window,
            .evict_interval = 1,
            .cache_type_k = "f32",
            .cache_type_v = "f32"};
}

TEST(AllQueries, GiveTheFirstTokenItsOwnAttentionAndThatOfAllOthers) {
    const auto engine = load("f32", 64);
    auto sequence = start(engine, probe(199, 199));
    append(sequence, test::sample_tokens(engine, 200));
    const auto group = static_cast<size_t>(engine.info().n_head / engine.info().n_head_kv);
    ASSERT_EQ(shown().size(), static_cast<size_t>(engine.info().n_layer * engine.info().n_head_kv));
    for (const auto& [layer_and_head, input] : shown()) {
        ASSERT_EQ(input.sum.size(), 1U);
        ASSERT_EQ(input.mean.size(), group);
        float mean = 0;
        for (const float m : input.mean) mean += m / static_cast<float>(group);
        EXPECT_NEAR(input.sum[0], 1 + 199 * mean, 1e-3)
            << "layer " << layer_and_head.first << " head " << layer_and_head.second;
    }
}

TEST(AllQueries, AreCountedOnceInChunksInSegmentsAndInDecoding) {
    const auto engine = load("f32", 512);
    const auto in_chunks = load("f32", 33);
    const auto tokens = test::sample_tokens(engine, 301);
    auto reference = start(engine, probe(300, 16));
    append(reference, tokens);
    // Of the first layer: later ones have been read over caches that differ.
    const auto expected = shown()[{0, 1}].sum;
    ASSERT_EQ(expected.size(), 285U);
    const auto expect_same = [&] {
        const auto& sum = shown()[{0, 1}].sum;
        ASSERT_EQ(sum.size(), expected.size());
        for (size_t j = 0; j < sum.size(); j++) ASSERT_NEAR(sum[j], expected[j], 1e-3 + 1e-3 * expected[j]) << j;
        shown().clear();
    };
    auto chunked = start(in_chunks, probe(300, 16));
    append(chunked, tokens);
    expect_same();
    auto in_segments = start(engine, probe(300, 16));
    append(in_segments, std::span(tokens).first(120));
    append(in_segments, std::span(tokens).subspan(120));
    expect_same();
    auto decoded = start(engine, probe(300, 16));
    append(decoded, std::span(tokens).first(200));
    for (size_t i = 200; i < 250; i++) ASSERT_TRUE(decoded.decode(tokens[i]));
    append(decoded, std::span(tokens).subspan(250));
    expect_same();
}

TEST(Window, IsOfTheLastTokensWhateverSegmentTheyWereReadIn) {
    const auto engine = load("f32", 64);
    const auto tokens = test::sample_tokens(engine, 206);
    auto at_once = start(engine, probe(205, 16));
    append(at_once, tokens);
    const auto expected = shown()[{0, 1}].mean;
    ASSERT_EQ(expected.size(), 190U * 2);
    auto in_parts = start(engine, probe(205, 16));
    append(in_parts, std::span(tokens).first(200));
    append(in_parts, std::span(tokens).subspan(200, 2));
    ASSERT_TRUE(in_parts.decode(tokens[202]));
    append(in_parts, std::span(tokens).subspan(203));
    const auto& mean = shown()[{0, 1}].mean;
    ASSERT_EQ(mean.size(), expected.size());
    for (size_t i = 0; i < mean.size(); i++) ASSERT_NEAR(mean[i], expected[i], 1e-5) << i;
}

TEST(Scorers, OfOnesOwnThatFailAreErrorsAndTheirOddNumbersHarmless) {
    know("throws", {}, [](const ScorerInput&) -> std::vector<float> { throw std::runtime_error("no opinion"); });
    know("short", {}, [](const ScorerInput&) { return std::vector<float>(3); });
    know("odd", {.keys = true}, [](const ScorerInput& input) {
        std::vector<float> scores(input.scored().positions.size(), NAN);
        for (size_t i = 0; i < scores.size(); i += 3) scores[i] = INFINITY;
        return scores;
    });
    const auto engine = load("f32");
    const auto tokens = test::sample_tokens(engine, 300);
    const auto error_of = [&](const std::string& policy) {
        const auto read = start(engine, {.policy = policy, .budget = TokensPerLayer{64}}).append(tokens);
        return read ? "" : read.error().message;
    };
    EXPECT_EQ(error_of("throws:uniform"), "the scorer throws failed: no opinion");
    EXPECT_EQ(error_of("short:preference"), "the scorer short gave 3 scores for 268 keys");
    for (const auto* policy : {"odd:uniform", "odd:adaptive-heads"}) {
        auto sequence = start(engine, {.policy = policy, .budget = TokensPerLayer{64}});
        append(sequence, tokens);
        for (int i = 0; i < 100; i++) ASSERT_TRUE(sequence.decode(tokens[static_cast<size_t>(i)]));
    }
}

TEST(Bound, SmallestBudgetIsTheWindow) {
    const auto engine = load("f32");
    const auto tokens = test::sample_tokens(engine, 400);
    EXPECT_FALSE(engine.sequence({.budget = TokensPerLayer{31}}));
    auto sequence = start(engine, {.budget = TokensPerLayer{32}});
    append(sequence, tokens);
    for (int i = 0; i < 50; i++) ASSERT_TRUE(sequence.decode(tokens[static_cast<size_t>(i)]));
    for (const auto& layer : sequence.layers()) EXPECT_LE(layer.kept, 32);
}

TEST(Generate, GoesOnWhereAShortPromptLeftRoomUpToTheBudget) {
    const auto engine = load("f32");
    const auto tokens = test::sample_tokens(engine, 40);
    auto sequence = start(engine, {.budget = TokensPerLayer{128}});
    append(sequence, tokens);
    for (int i = 0; i < 88; i++) ASSERT_TRUE(sequence.decode(tokens[static_cast<size_t>(i % 40)]));
    for (const auto& layer : sequence.layers()) EXPECT_EQ(layer.kept, 128);
    ASSERT_TRUE(sequence.decode(tokens[0]));
    for (const auto& layer : sequence.layers()) EXPECT_LE(layer.kept, 128);
}

TEST(Generate, StopsAtTheLimitAndWhenCancelled) {
    const auto engine = load("f32");
    const auto tokens = test::sample_tokens(engine, 40);
    auto sequence = start(engine, {.budget = TokensPerLayer{64}});
    append(sequence, tokens);
    size_t n = 0;
    for ([[maybe_unused]] const Token token : sequence.generate({.max_tokens = 10, .ignore_eos = true})) n++;
    EXPECT_EQ(n, 10U);
    EXPECT_EQ(sequence.finish_reason(), FinishReason::length);
    n = 0;
    for ([[maybe_unused]] const Token token :
         sequence.generate({.ignore_eos = true, .cancelled = [&] { return n == 5; }}))
        n++;
    EXPECT_EQ(n, 5U);
    EXPECT_EQ(sequence.finish_reason(), FinishReason::cancelled);
}

TEST(Generate, SaysThatAFullCacheHasNoRoom) {
    const auto engine = load("f32");
    const auto tokens = test::sample_tokens(engine, 40);
    auto sequence = start(engine, full(50));
    append(sequence, tokens);
    for (int i = 0; i < 10; i++) ASSERT_TRUE(sequence.decode(tokens[0]));
    EXPECT_FALSE(sequence.decode(tokens[0]));
    EXPECT_FALSE(start(engine, full(20)).append(tokens));
}

TEST(Append, RefusesNothingAndTokensOutsideTheVocabulary) {
    const auto engine = load("f32");
    auto sequence = start(engine, {});
    EXPECT_FALSE(sequence.append({}));
    const std::vector<Token> outside{1, engine.info().n_vocab};
    EXPECT_FALSE(sequence.append(outside));
    const std::vector<Token> negative{-1};
    EXPECT_FALSE(sequence.append(negative));
}

TEST(Append, ACancelledTextCanNotGoOn) {
    const auto engine = load("f32", 16);
    const auto tokens = test::sample_tokens(engine, 100);
    auto sequence = start(engine, {});
    EXPECT_FALSE(sequence.append(tokens, {.progress = [](int64_t, int64_t) { return false; }}));
    EXPECT_FALSE(sequence.append(tokens));
}

TEST(Budget, MeansTheSameInTokensBytesAndShare) {
    const auto engine = load("f32");
    const auto tokens = test::sample_tokens(engine, 1000);
    const auto per_token =
        *engine.kv_bytes_per_token_and_layer("f16", "f16") * static_cast<uint64_t>(engine.info().n_layer);
    for (const Budget& budget : {Budget{TokensPerLayer{100}}, Budget{KvBytes{per_token * 100}}, Budget{KvRatio{0.1}}}) {
        auto sequence = start(engine, {.budget = budget});
        append(sequence, tokens);
        EXPECT_EQ(sequence.memory().budget_tokens_per_layer, 100);
        EXPECT_EQ(sequence.memory().kv_bytes_budget, per_token * 100);
    }
}

TEST(Budget, AShareOfAShortPromptIsAtLeastTheWindow) {
    const auto engine = load("f32");
    const auto tokens = test::sample_tokens(engine, 40);
    auto sequence = start(engine, {.budget = KvRatio{0.05}});
    append(sequence, tokens);
    EXPECT_EQ(sequence.memory().budget_tokens_per_layer, 32);
}

TEST(Budget, AnIntervalThatLeavesNothingToBeWonIsRefused) {
    const auto engine = load("f32");
    const auto tokens = test::sample_tokens(engine, 40);
    auto good = start(engine, {.budget = TokensPerLayer{256}, .evict_interval = 112});
    append(good, tokens);
    auto bad = start(engine, {.budget = TokensPerLayer{256}, .evict_interval = 113});
    const auto read = bad.append(tokens);
    ASSERT_FALSE(read);
    EXPECT_NE(read.error().message.find("at most 112"), std::string::npos) << read.error().message;
}

TEST(Options, WrongOnesAreRefusedByName) {
    const auto engine = load("f32");
    const auto refused = [&](const SequenceOptions& options, const std::string& part) {
        const auto sequence = engine.sequence(options);
        ASSERT_FALSE(sequence);
        EXPECT_NE(sequence.error().message.find(part), std::string::npos) << sequence.error().message;
    };
    refused({.policy = "nosuch"}, "pyramidkv");
    refused({.scorer = "nosuch"}, "streaming-llm");
    refused({.allocator = "nosuch"}, "pyramid");
    refused({.policy = "full", .scorer = "cake"}, "allocator");
    refused({.policy = "cake:nosuch"}, "pyramid");
    refused({.policy = "nosuch:uniform"}, "snapkv");
    refused({.policy = "full", .budget = TokensPerLayer{64}}, "keeps everything");
    refused({.window = 0}, "window");
    refused({.window = 1025}, "1024");
    refused({.gamma = -1}, "gamma");
    refused({.pool_kernel = 4}, "odd");
    refused({.pool_kernel = -1}, "pooling");
    refused({.tau1 = 0}, "tau1");
    refused({.cache_type_k = "q3"}, "q8_0");
    refused({.budget = TokensPerLayer{0}}, "at least 32");
    refused({.budget = KvBytes{1}}, "bytes");
}

}  // namespace
}  // namespace cake
