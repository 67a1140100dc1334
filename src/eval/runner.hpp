#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "cake/engine.hpp"
#include "eval/results.hpp"
#include "eval/sample.hpp"

namespace cake::eval {

/// A policy and a budget to be compared with others.
struct Setting {
    std::string policy;
    int64_t budget = 0;  // tokens a layer; 0: no bound
    SequenceOptions options;
};

/// Every policy with every budget, and once each of those that take none.
std::vector<Setting> all_settings(std::span<const std::string> policies, std::span<const int64_t> budgets,
                                  const SequenceOptions& common);

/// Starts a sequence for each setting and reads the same text into all of them.
Result<std::vector<Sequence>> read_for_all(const Engine& engine, std::span<const Setting> settings,
                                           std::span<const Token> tokens, int64_t max_more_tokens,
                                           const ProgressFunction& progress);

struct RunnerOptions {
    int64_t max_prompt = 0;  // tokens; a longer prompt loses its middle. 0: no limit
    std::function<bool(size_t n_done, size_t n_samples)> progress;  // false stops
    std::function<void()> on_cut;                                   // a prompt lost its middle
    std::function<void(const Sample&, const Setting&, const std::string& prediction, double score)> on_answer;
};

/// Asks every sample under every setting, taking the likeliest tokens, and averages the scores by subtask, length and
/// depth, and over all depths. Where it was stopped, the rows are of what had been asked until then.
Result<std::vector<Row>> run_samples(const Engine& engine, std::span<const Sample> samples,
                                     std::span<const Setting> settings, const RunnerOptions& options);

}  // namespace cake::eval
