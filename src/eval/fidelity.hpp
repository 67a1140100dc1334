#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "cake/engine.hpp"
#include "eval/results.hpp"
#include "eval/runner.hpp"

namespace cake::eval {

/// Text for comparing the next-token distributions under a budget with those of the full cache. The continuation of a
/// prompt is the following text, not a generated answer.
struct FidelityInput {
    std::string name;  // name of the text, shown as the subtask
    std::string text;
    int64_t n_prompt = 0;        // number of prompt tokens per passage
    int64_t n_continuation = 0;  // number of distributions compared after the prompt
    int32_t n_samples = 1;       // number of passages, evenly spaced in the text; fewer if they would overlap
};

/// Figures of a row: "kl", the mean KL(full || policy) in nats per token; "top1", the share of tokens for which policy
/// and full cache have the same most likely token; "ppl_ratio", the perplexity under the policy divided by that of the
/// full cache. Confidence intervals are over passages. The reference is the full cache in f16; a setting equal to it is
/// skipped. Every prompt begins with the model's first token (Engine::first_token), if it has one. The distribution
/// right after the prefill is the same under every policy and is not counted.
Outcome fidelity(const Engine& engine, std::span<const FidelityInput> texts, std::span<const Setting> settings,
                 const CountProgress& progress);

}  // namespace cake::eval
