// Sequences that share a prefill (branch_to_all) or a pass over the weights (decode_each).

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "cake/engine.hpp"
#include "cake/sequence.hpp"
#include "support/llama_reference.hpp"
#include "support/test_models.hpp"

namespace cake {
namespace {

using test::append;
using test::load;
using test::mean_kl;
using test::start;

constexpr size_t kText = 240;
constexpr size_t kQuestion = 40;

SequenceOptions options_of(const std::string& policy) {
    SequenceOptions options{.policy = policy, .cache_type_k = "f32", .cache_type_v = "f32", .max_tokens = 400};
    if (policy != "full") options.budget = TokensPerLayer{64};
    return options;
}

constexpr const char* kPolicies[] = {"full",         "cake", "snapkv", "h2o", "ada-snapkv", "cake:preference-heads",
                                     "streaming-llm"};

std::vector<Sequence> start_all(const Engine& engine) {
    std::vector<Sequence> sequences;
    for (const auto* policy : kPolicies) sequences.push_back(start(engine, options_of(policy)));
    return sequences;
}

Sequence read_base(const Engine& engine, std::span<const Sequence> sequences, std::span<const Token> text) {
    auto base = branch_base(engine, sequences, static_cast<int64_t>(text.size()));
    EXPECT_TRUE(base) << base.error().message;
    append(*base, text);
    return std::move(*base);
}

void expect_same_cache(const Engine& engine, const Sequence& a, const Sequence& b) {
    EXPECT_EQ(a.n_tokens(), b.n_tokens());
    for (int32_t layer = 0; layer < engine.info().n_layer; layer++)
        for (int32_t head = 0; head < engine.info().n_head_kv; head++)
            EXPECT_EQ(a.positions(layer, head), b.positions(layer, head)) << "layer " << layer << ", head " << head;
    EXPECT_LT(mean_kl(a.logits(), b.logits(), a.logits().size()), 1e-6);
}

TEST(Branch, EndsAsIfItHadReadTheWholeText) {
    const auto engine = load("f32");
    const auto tokens = test::sample_tokens(engine, kText + 2 * kQuestion);
    const auto text = std::span(tokens).first(kText);
    auto first = start_all(engine);
    const auto base = read_base(engine, first, text);
    for (const size_t begin : {kText, kText + kQuestion}) {
        const auto question = std::span(tokens).subspan(begin, kQuestion);
        auto branches = start_all(engine);
        const auto read = branch_to_all(base, branches, question);
        ASSERT_TRUE(read) << read.error().message;
        std::vector<Token> all(text.begin(), text.end());
        all.append_range(question);
        auto whole = start_all(engine);
        ASSERT_TRUE(append_to_all(whole, all));
        for (size_t i = 0; i < branches.size(); i++) {
            SCOPED_TRACE(kPolicies[i]);
            expect_same_cache(engine, whole[i], branches[i]);
            EXPECT_EQ(whole[i].stages(), branches[i].stages());
            ASSERT_TRUE(whole[i].decode(tokens[7]));
            ASSERT_TRUE(branches[i].decode(tokens[7]));
            expect_same_cache(engine, whole[i], branches[i]);
        }
    }
    EXPECT_EQ(base.n_tokens(), static_cast<int64_t>(kText));
}

TEST(Branch, RefusesWhatCannotBeAsIfTheTextHadBeenRead) {
    const auto engine = load("f32");
    const auto tokens = test::sample_tokens(engine, kText + kQuestion);
    const auto refused = [&](const Sequence& base, const std::string& policy, size_t n_tokens, const std::string& why) {
        std::vector<Sequence> branches;
        branches.push_back(start(engine, options_of(policy)));
        const auto read = branch_to_all(base, branches, std::span(tokens).first(n_tokens));
        ASSERT_FALSE(read);
        EXPECT_NE(read.error().message.find(why), std::string::npos) << read.error().message;
    };
    auto evicted = start(engine, options_of("cake"));
    append(evicted, tokens);
    refused(evicted, "cake", kQuestion, "holds all");
    auto whole = start(engine, options_of("full"));
    refused(whole, "cake", kQuestion, "holds all");
    append(whole, tokens);
    refused(whole, "cake", 8, "window");
    refused(whole, "h2o", kQuestion, "all queries");
}

TEST(DecodeEach, GivesWhatDecodingAloneGives) {
    const auto engine = load("f32");
    const auto tokens = test::sample_tokens(engine, kText);
    auto alone = start_all(engine);
    auto together = start_all(engine);
    ASSERT_TRUE(append_to_all(alone, tokens));
    ASSERT_TRUE(append_to_all(together, tokens));
    // Enough steps for several evictions.
    for (size_t step = 0; step < 40; step++) {
        std::vector<Sequence*> batch;
        std::vector<Token> next;
        for (size_t i = 0; i < alone.size(); i++) {
            next.push_back(tokens[step + i]);
            batch.push_back(&together[i]);
            ASSERT_TRUE(alone[i].decode(next.back()));
        }
        const auto decoded = decode_each(batch, next);
        ASSERT_TRUE(decoded) << decoded.error().message;
    }
    for (size_t i = 0; i < alone.size(); i++) {
        SCOPED_TRACE(kPolicies[i]);
        expect_same_cache(engine, alone[i], together[i]);
    }
    std::vector<Sequence*> two = {&alone[0], &alone[1]};
    EXPECT_FALSE(decode_each(two, std::vector<Token>{1}));
    auto empty = start(engine, options_of("cake"));
    two[1] = &empty;
    EXPECT_FALSE(decode_each(two, std::vector<Token>{1, 1}));
    two[1] = two[0];
    EXPECT_FALSE(decode_each(two, std::vector<Token>{1, 1}));
}

/// A graph is not used again for another sequence, although it may have the memory of one that is gone.
TEST(DecodeEach, WithAnotherSequenceInThePlaceOfOneGivesTheSame) {
    const auto engine = load("f32", 64);
    const auto tokens = test::sample_tokens(engine, 80);
    const auto begun = [&](size_t n_tokens) {
        auto sequence = start(engine, {.policy = "full", .max_tokens = 80});
        append(sequence, std::span(tokens).first(n_tokens));
        return sequence;
    };
    auto stays = begun(50);
    for (size_t step = 0; step < 4; step++) {
        auto changes = begun(60 + step);
        auto alone = begun(60 + step);
        for (size_t i = 0; i < 3; i++) {
            ASSERT_TRUE(decode_each(std::vector{&stays, &changes}, std::vector<Token>{1, 2}));
            ASSERT_TRUE(alone.decode(2));
            EXPECT_TRUE(std::ranges::equal(changes.logits(), alone.logits()));
        }
    }
}

}  // namespace
}  // namespace cake
