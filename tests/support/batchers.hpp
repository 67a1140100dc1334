#pragma once

#include <chrono>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "serving/batch_loop.hpp"

namespace cake::test {

inline constexpr std::chrono::seconds kLongest(120);

struct Outcome {
    std::vector<TokenDrawn> drawn;
    FinishReason reason = FinishReason::cancelled;
    std::string error;
    int64_t n_cached = 0;

    std::vector<Token> tokens() const {
        std::vector<Token> result;
        for (const auto& d : drawn) result.push_back(d.token);
        return result;
    }
    std::vector<float> logprobs() const {
        std::vector<float> result;
        for (const auto& d : drawn) result.push_back(d.logprob);
        return result;
    }
};

inline std::vector<Outcome> collect(Generation& generation, int32_t n_choices = 1) {
    std::vector<Outcome> outcomes(static_cast<size_t>(n_choices));
    for (int32_t n_open = n_choices; n_open > 0;) {
        const auto event = generation.next(kLongest);
        if (!event) throw std::runtime_error("nothing has happened for too long");
        if (const auto* read = std::get_if<PromptRead>(&event->what)) {
            for (auto& outcome : outcomes) outcome.n_cached = read->n_cached;
        } else if (const auto* drawn = std::get_if<TokenDrawn>(&event->what)) {
            outcomes[static_cast<size_t>(drawn->choice)].drawn.push_back(*drawn);
        } else {
            const auto& ended = std::get<ChoiceEnded>(event->what);
            outcomes[static_cast<size_t>(ended.choice)].reason = ended.reason;
            outcomes[static_cast<size_t>(ended.choice)].error = ended.error.message;
            n_open--;
        }
    }
    return outcomes;
}

inline std::unique_ptr<BatchLoop> start(const Engine& engine, const BatcherOptions& options) {
    auto batcher = BatchLoop::start(engine, options);
    if (!batcher) throw std::runtime_error(batcher.error().message);
    return std::move(*batcher);
}

inline std::shared_ptr<Generation> submit(Batcher& batcher, GenerationRequest request) {
    auto generation = batcher.submit(std::move(request));
    if (!generation) throw std::runtime_error(generation.error().message);
    return *generation;
}

inline Outcome answer(Batcher& batcher, GenerationRequest request) {
    return collect(*submit(batcher, std::move(request))).front();
}

/// The answer of a batcher that has read nothing before.
inline Outcome fresh_answer(const Engine& engine, const BatcherOptions& options, const GenerationRequest& request) {
    return answer(*start(engine, options), request);
}

/// Waits until a request generates.
inline void wait_for_token(Generation& generation) {
    for (auto event = generation.next(kLongest);; event = generation.next(kLongest)) {
        if (!event) throw std::runtime_error("no token has been drawn for too long");
        if (std::holds_alternative<TokenDrawn>(event->what)) return;
    }
}

/// The budget is 64 tokens per layer, so longer prompts cause evictions.
inline BatcherOptions small_options(int32_t n_parallel) {
    return {.pool = {.sequence = {.budget = TokensPerLayer{64}, .window = 8}, .n_parallel = n_parallel, .n_ctx = 2048}};
}

inline GenerationRequest greedy(const Batcher& batcher, std::span<const Token> prompt, int64_t max_tokens) {
    return {.prompt = {prompt.begin(), prompt.end()},
            .sequence = batcher.limits().sequence,
            .sampling = {.temperature = 0},
            .max_tokens = max_tokens,
            .ignore_eos = true,
            .n_logprobs = 2,
            .reuse = false};
}

}  // namespace cake::test
