#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "cake/engine.hpp"
#include "eval/results.hpp"
#include "eval/runner.hpp"

namespace cake::eval {

/// How near the next-token distributions under a budget stay to those of the full cache, over the text's own
/// continuation.
struct FidelityInput {
    std::string name;  // of the text
    std::string text;
    int64_t n_prompt = 0;        // tokens read before
    int64_t n_continuation = 0;  // distributions compared
    int32_t n_samples = 1;       // passages, evenly spread over the text; fewer where they would overlap
};

/// Figures of a row: "kl", mean KL(full || policy) in nats a token; "top1", how often both find the same token the
/// likeliest; "ppl_ratio", perplexity under the policy over that of the full cache. The intervals are over passages.
/// What is compared with is the full cache in f16; a setting that is just this is left out. Every passage begins as the
/// model expects a text to; the first distribution behind it comes from reading it, which is the same under every
/// policy, and is not counted.
Outcome fidelity(const Engine& engine, std::span<const FidelityInput> texts, std::span<const Setting> settings,
                 const CountProgress& progress);

}  // namespace cake::eval
