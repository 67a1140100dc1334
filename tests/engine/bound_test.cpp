#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <random>

#include "cake/engine.hpp"
#include "cake/policy.hpp"
#include "support/test_models.hpp"

namespace cake {
namespace {

using test::append;
using test::generate;
using test::load;
using test::start;

struct Kept {
    std::string policy;
    std::string cache_type = "f16";
    std::string model = "f32";
};

/// Every policy that evicts, some combinations, and the cache types.
std::vector<Kept> all_kept() {
    std::vector<Kept> all;
    for (const auto& policy : policy_names())
        if (policy.name != kFullPolicy) all.push_back({policy.name});
    for (const auto* other : {"cake:preference-heads", "tova:adaptive-heads", "cake:model-top-k", "h2o:entropy",
                              "r-kv:uniform", "criticalkv+cake:preference", "dropkv-max:uniform"})
        all.push_back({other});
    for (const auto* type : {"q8_0", "q4_0", "f32", "bf16"}) all.push_back({"cake", type});
    for (const auto* policy : {"dropkv", "layer-defensivekv", "kvzip+", "expected-attention"})
        all.push_back({policy, "q8_0"});
    // V as a part of K, layers without K and V, layers that share them, and a recurrence beside attention.
    for (const auto* model : {"deepseek2-q8_0", "qwen35-q8_0", "gemma4-q8_0", "falcon-h1-q8_0"})
        for (const auto* policy : {"cake+", "kvzip+", "expected-attention", "lava", "critical-adakv", "r-kv"})
            all.push_back({policy, "f16", model});
    return all;
}

/// Slots that hold a token, over all layers and KV heads.
int64_t n_slots(const Sequence& sequence, const ModelInfo& info) {
    int64_t n = 0;
    for (int32_t layer = 0; layer < info.n_layer; layer++)
        for (int32_t head = 0; head < info.n_head_kv; head++) n += std::ssize(sequence.positions(layer, head));
    return n;
}

class Bound : public testing::TestWithParam<Kept> {};

TEST_P(Bound, HoldsInPrefillDecodingAndFurtherSegments) {
    const auto engine = load(GetParam().model, 64);
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
        for (const auto& layer : sequence.layers())
            EXPECT_GE(layer.kept, layer.n_head_kv == 0 ? 0 : std::min<int64_t>(16, sequence.n_tokens()));
        const auto& info = engine.info();
        EXPECT_LE(n_slots(sequence, info), int64_t{96} * info.n_kv_layers * info.n_head_kv);
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

INSTANTIATE_TEST_SUITE_P(Policies, Bound, testing::ValuesIn(all_kept()), [](const auto& instance) {
    std::string name = instance.param.policy + "_" + instance.param.cache_type;
    if (instance.param.model != "f32") name += "_" + instance.param.model.substr(0, instance.param.model.find('-'));
    std::ranges::replace(name, '+', 'P');
    std::ranges::replace_if(name, [](unsigned char c) { return std::isalnum(c) == 0; }, '_');
    return name;
});

/// The preferences are so skewed that some layers keep only their window, and the slack of decoding reaches into it.
TEST(Bound, HoldsOverTurnsOfAnyLength) {
    const auto engine = load("f32", 64);
    const auto tokens = test::sample_tokens(engine, 200);
    for (const auto* policy : {"cake", "cake:preference-heads", "lava", "layer-defensivekv", "kvzip"}) {
        for (uint64_t seed = 1; seed <= 25; seed++) {
            SCOPED_TRACE(testing::Message() << policy << " seed " << seed);
            std::mt19937_64 random(seed);
            const auto draw = [&](int32_t least, int32_t most) {
                return least + static_cast<int32_t>(random() % static_cast<uint64_t>(most - least + 1));
            };
            const int32_t window = draw(1, 24);
            const int32_t budget = window + draw(0, 40);
            const double skew[] = {0.02, 1, 50};
            auto sequence = start(engine, {.policy = policy,
                                           .budget = TokensPerLayer{budget},
                                           .window = window,
                                           .tau1 = skew[draw(0, 2)],
                                           .tau2 = skew[draw(0, 2)],
                                           .evict_interval = std::max(1, (budget - window) / draw(2, 4))});
            append(sequence, tokens);
            for (int turn = 0; turn < 8; turn++) {
                generate(sequence, draw(0, 20));
                append(sequence, std::span(tokens).first(static_cast<size_t>(draw(1, draw(0, 2) == 0 ? 200 : 6))));
                EXPECT_LE(n_slots(sequence, engine.info()),
                          int64_t{budget} * engine.info().n_layer * engine.info().n_head_kv);
            }
        }
    }
}

/// Attention that is uniform in every layer, so that all preferences are 0; attention on a single key; a text that
/// repeats one line; and random tokens.
TEST(Bound, HoldsWithAtypicalAttention) {
    for (const auto* model : {"flat", "sharp", "f32"}) {
        const auto engine = load(model, 128);
        auto random_tokens = test::sample_tokens(engine, 700);
        std::mt19937_64 random(3);
        for (Token& token : random_tokens) token = static_cast<Token>(3 + random() % 500);
        const auto line = test::sample_tokens(engine, 20);
        std::vector<Token> lines;
        for (int i = 0; i < 35; i++) lines.insert(lines.end(), line.begin(), line.end());
        for (const auto* policy : {"cake", "snapkv", "pyramidkv", "h2o", "cake:preference-heads", "keydiff"}) {
            for (const auto& text : {random_tokens, lines}) {
                SCOPED_TRACE(testing::Message() << model << " " << policy);
                auto sequence =
                    start(engine, {.policy = policy, .budget = TokensPerLayer{40}, .window = 16, .analyse = true});
                append(sequence, text);
                generate(sequence, 40);
                int64_t kept = 0;
                for (const auto& layer : sequence.layers()) {
                    EXPECT_GE(layer.budget, 16);
                    EXPECT_GE(layer.kept, 16);
                    kept += layer.kept;
                    for (const auto& figure : {layer.dispersion, layer.shift, layer.preference})
                        EXPECT_TRUE(figure && std::isfinite(*figure) && *figure >= 0);
                }
                EXPECT_LE(kept, 40 * engine.info().n_layer);
                // The budget is used up, except for rounding (at most a token per layer) and the slack of decoding.
                EXPECT_GE(kept, 35 * engine.info().n_layer);
                EXPECT_TRUE(std::ranges::all_of(sequence.logits(), [](float x) { return std::isfinite(x); }));
            }
        }
    }
}

/// Old windows must not stay for ever, and runs may hold fewer tokens than there are sinks.
TEST(Bound, KvzipKeepsNoOldWindowsForTheirOwnSake) {
    const auto engine = load("f32", 64);
    const auto tokens = test::sample_tokens(engine, 1600);
    auto sequence = start(engine, {.policy = "kvzip", .budget = TokensPerLayer{48}, .window = 16});
    ASSERT_TRUE(sequence.append(tokens, {.segment = 100}));
    int64_t n_old = 0;  // tokens of the windows of the first ten segments
    for (int32_t layer = 0; layer < engine.info().n_layer; layer++)
        for (int32_t head = 0; head < engine.info().n_head_kv; head++)
            n_old += std::ranges::count_if(sequence.positions(layer, head),
                                           [](int32_t p) { return p < 1000 && p % 100 >= 84; });
    const int64_t n_all = n_slots(sequence, engine.info());
    EXPECT_LT(n_old, n_all / 4);
    for (const auto* policy : {"kvzip", "kvzip+", "expected-attention", "layer-defensivekv"}) {
        auto small = start(engine, {.policy = policy, .budget = TokensPerLayer{6}, .window = 1});
        for (const size_t n : {200, 30, 5, 300}) append(small, std::span(tokens).first(n));
        EXPECT_LE(n_slots(small, engine.info()), int64_t{6} * engine.info().n_layer * engine.info().n_head_kv);
    }
    const auto learned = load("gpt2");
    const auto refused = learned.sequence({.policy = "kvzip", .budget = TokensPerLayer{64}});
    ASSERT_FALSE(refused);
    EXPECT_TRUE(refused.error().message.contains("positions")) << refused.error().message;
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

/// Sum of all accounted memory peaks, in bytes.
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
        // Under ada-snapkv, the heads of a layer hold different numbers of tokens, so the staging layer's size varies.
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

TEST(Budget, MeansTheSameInTokensBytesAndShare) {
    const auto engine = load("f32");
    const auto tokens = test::sample_tokens(engine, 1000);
    const auto per_token = engine.kv_bytes(*engine.kv_token_bytes("f16", "f16"), 1, 1);
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

}  // namespace
}  // namespace cake
