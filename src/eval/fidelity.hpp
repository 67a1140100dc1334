#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

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
    int64_t n_continuation = 0;  // tokens compared
    int32_t n_samples = 1;       // passages, evenly spread over the text
};

/// Figures of a row: "kl", mean KL(full || policy) in nats a token; "top1", how often both find the same token the
/// likeliest; "ppl_ratio", perplexity under the policy over that of the full cache. The intervals are over passages.
/// `progress`: done and all passages; false stops, and the rows are of what had been compared until then.
Result<std::vector<Row>> fidelity(const Engine& engine, std::span<const FidelityInput> texts,
                                  std::span<const Setting> settings,
                                  const std::function<bool(size_t n_done, size_t n_passages)>& progress);

}  // namespace cake::eval
