#include <gtest/gtest.h>

#include <thread>

#include "support/batchers.hpp"
#include "support/test_models.hpp"

namespace cake {
namespace {

using namespace test;

TEST(Batcher, RefusesWithTheNumbersWhatCanNeverFit) {
    const auto engine = load("f32", 128);
    auto batcher = start(engine, small_options(2));
    const auto text = sample_tokens(engine, 2048);
    const auto refusal = [&](GenerationRequest request) {
        const auto taken = batcher->submit(std::move(request));
        return taken ? std::string() : taken.error().message;
    };
    EXPECT_EQ(refusal(greedy(*batcher, text, 1)),
              "the prompt has 2048 tokens, and with its answer it has to fit into the context of 2048: send a shorter "
              "one, or start the server with a larger context (-c)");
    auto large = greedy(*batcher, std::span(text).first(10), 1);
    large.sequence.budget = TokensPerLayer{1000};
    EXPECT_TRUE(refusal(large).starts_with("the request needs ")) << refusal(large);
    EXPECT_TRUE(refusal(large).ends_with("use a smaller budget or a shorter text")) << refusal(large);
    auto full = greedy(*batcher, std::span(text).first(200), 1);
    full.sequence.policy = "full";
    full.sequence.budget.reset();
    EXPECT_TRUE(refusal(full).starts_with("the request needs ")) << refusal(full);
    full.prompt.resize(50);
    EXPECT_EQ(answer(*batcher, full).drawn.size(), 1U);
    EXPECT_EQ(refusal(greedy(*batcher, {}, 1)), "there is nothing to read: the text contains no tokens");
    auto odd = greedy(*batcher, std::span(text).first(10), 1);
    odd.prompt[3] = engine.info().n_vocab;
    EXPECT_TRUE(refusal(odd).contains("outside the vocabulary")) << refusal(odd);
}

TEST(Batcher, WhatIsCancelledEndsAndTheOthersGoOn) {
    const auto engine = load("f32", 32);
    auto batcher = start(engine, small_options(3));
    const auto text = sample_tokens(engine, 2000);
    const auto alone = answer(*batcher, greedy(*batcher, std::span(text).first(100), 60));
    const auto reading = submit(*batcher, greedy(*batcher, std::span(text).first(1900), 100));
    const auto generating = submit(*batcher, greedy(*batcher, std::span(text).first(50), -1));
    const auto good = submit(*batcher, greedy(*batcher, std::span(text).first(100), 60));
    wait_for_token(*generating);
    generating->cancel();
    reading->cancel();
    EXPECT_EQ(collect(*good).front().tokens(), alone.tokens());
    EXPECT_EQ(collect(*reading).front().reason, FinishReason::cancelled);
    EXPECT_EQ(collect(*generating).front().reason, FinishReason::cancelled);
    const auto report = batcher->report();
    EXPECT_EQ(report.n_reading + report.n_generating, 0);
    EXPECT_LE(report.kv_bytes_now, batcher->pool().bytes_of_stores());
}

TEST(Batcher, BeyondTheQueueItIsBusy) {
    const auto engine = load("f32", 32);
    auto options = small_options(1);
    options.n_queue = 2;
    auto batcher = start(engine, options);
    const auto text = sample_tokens(engine, 1000);
    std::vector<std::shared_ptr<Generation>> taken{submit(*batcher, greedy(*batcher, text, 30))};
    while (batcher->report().n_reading == 0) continue;
    for (int i = 0; i < 2; i++) taken.push_back(submit(*batcher, greedy(*batcher, std::span(text).first(20), 3)));
    const auto refused = batcher->submit(greedy(*batcher, std::span(text).first(20), 3));
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().reason, Refusal::Reason::busy);
    EXPECT_GE(refused.error().retry_after.count(), 1);
    EXPECT_EQ(refused.error().message, "2 requests are already waiting, and no more may wait: try again later");
    for (const auto& generation : taken) EXPECT_EQ(collect(*generation).front().reason, FinishReason::length);
}

TEST(Batcher, WithoutAQueueAsManyBeginAsThereAreSequences) {
    const auto engine = load("f32", 32);
    auto options = small_options(3);
    options.n_queue = 0;
    auto batcher = start(engine, options);
    const auto text = sample_tokens(engine, 400);
    for (int round = 0; round < 10; round++) {
        std::vector<std::shared_ptr<Generation>> taken;
        taken.reserve(3);
        for (int i = 0; i < 3; i++) taken.push_back(submit(*batcher, greedy(*batcher, text, 3)));
        const auto refused = batcher->submit(greedy(*batcher, text, 3));
        ASSERT_FALSE(refused);
        EXPECT_EQ(refused.error().reason, Refusal::Reason::busy);
        for (const auto& generation : taken) EXPECT_EQ(collect(*generation).front().reason, FinishReason::length);
        while (batcher->is_busy()) std::this_thread::yield();
    }
}

TEST(Batcher, AClientWithManyRequestsDoesNotKeepOthersWaiting) {
    const auto engine = load("f32", 32);
    auto batcher = start(engine, small_options(2));
    const auto text = sample_tokens(engine, 200);
    const auto from = [&](const std::string& client) {
        auto request = greedy(*batcher, text, 30);
        request.client = client;
        return submit(*batcher, request);
    };
    // Two endless answers occupy the batcher until all requests wait.
    std::vector<std::shared_ptr<Generation>> endless;
    for (int i = 0; i < 2; i++) {
        endless.push_back(submit(*batcher, greedy(*batcher, std::span(text).first(20), -1)));
        wait_for_token(*endless.back());
    }
    std::vector<std::shared_ptr<Generation>> greedy_client;
    for (int i = 0; i < 8; i++) greedy_client.push_back(from("many"));
    const auto other = from("one");
    for (const auto& generation : endless) generation->cancel();
    EXPECT_EQ(collect(*other).front().reason, FinishReason::length);
    // It was the other client's turn, so most requests of the first client are still waiting.
    EXPECT_GE(batcher->report().n_waiting, 4);
    for (const auto& generation : greedy_client) collect(*generation);
}

TEST(Batcher, DecodingGoesOnWhileALongPromptIsRead) {
    const auto engine = load("f32", 32);
    auto batcher = start(engine, small_options(2));
    const auto text = sample_tokens(engine, 2000);
    const auto first = submit(*batcher, greedy(*batcher, std::span(text).first(20), -1));
    wait_for_token(*first);
    const auto second = submit(*batcher, greedy(*batcher, std::span(text).first(1990), 1));
    while (first->next(std::chrono::milliseconds(0))) continue;
    int64_t n_between = 0;
    bool done = false;
    while (!done) {
        if (const auto event = second->next(std::chrono::milliseconds(1)))
            done = std::holds_alternative<ChoiceEnded>(event->what);
        while (first->next(std::chrono::milliseconds(0))) n_between++;
    }
    // There are 63 chunks in every layer, and at least one token is decoded per two chunks.
    EXPECT_GE(n_between, 63 * engine.info().n_layer / 2);
    first->cancel();
}

TEST(Batcher, EndsWhatRunsWhenItIsStopped) {
    const auto engine = load("f32", 32);
    auto batcher = start(engine, small_options(1));
    const auto text = sample_tokens(engine, 1500);
    const auto running = submit(*batcher, greedy(*batcher, text, -1));
    const auto waiting = submit(*batcher, greedy(*batcher, text, -1));
    batcher->close();
    EXPECT_TRUE(batcher->is_busy());
    const auto refused = batcher->submit(greedy(*batcher, text, 1));
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().reason, Refusal::Reason::busy);
    batcher.reset();
    EXPECT_EQ(collect(*running).front().reason, FinishReason::cancelled);
    EXPECT_EQ(collect(*waiting).front().reason, FinishReason::cancelled);
}

}  // namespace
}  // namespace cake
