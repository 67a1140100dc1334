#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <stdexcept>

#include "cake/engine.hpp"
#include "cake/policy.hpp"
#include "support/test_models.hpp"

namespace cake {
namespace {

using test::append;
using test::load;
using test::start;

/// Registers the scorer `score` under `name`, unless an earlier test in this process has done so.
void know(const std::string& name, ScorerReads reads, std::function<std::vector<float>(const ScorerInput&)> score) {
    const auto known = scorer_names();
    if (std::ranges::contains(known, name, &Named::name)) return;
    const auto added = add_scorer({.name = name, .summary = "of a test", .reads = reads, .score = std::move(score)});
    if (!added) throw std::runtime_error(added.error().message);
}

/// Statistics that were last passed to the probe scorer. shown() stores them by layer and KV head.
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
    // Compare layer 0 only: the inputs of later layers depend on what the layers before them held.
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
    EXPECT_EQ(error_of("short:preference"), "the scorer short returned 3 scores for 268 keys");
    for (const auto* policy : {"odd:uniform", "odd:adaptive-heads"}) {
        auto sequence = start(engine, {.policy = policy, .budget = TokensPerLayer{64}});
        append(sequence, tokens);
        for (int i = 0; i < 100; i++) ASSERT_TRUE(sequence.decode(tokens[static_cast<size_t>(i)]));
    }
}

}  // namespace
}  // namespace cake
