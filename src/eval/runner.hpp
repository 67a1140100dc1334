#pragma once

#include <cstdint>
#include <functional>
#include <optional>
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

/// An empty sequence for each setting, for a text of `n_tokens` with at most `max_more_tokens` after it. `number` is
/// that of the text: a random scorer draws anew for each.
Result<std::vector<Sequence>> open_all(const Engine& engine, std::span<const Setting> settings, int64_t n_tokens,
                                       int64_t max_more_tokens, size_t number);

/// Starts a sequence for each setting and reads the same text into all of them. `number` is that of the text: a random
/// scorer draws anew for each.
Result<std::vector<Sequence>> read_for_all(const Engine& engine, std::span<const Setting> settings,
                                           std::span<const Token> tokens, int64_t max_more_tokens, size_t number,
                                           const ProgressFunction& progress);

/// Told how many of how many are done, many times for each; false stops.
using CountProgress = std::function<bool(size_t n_done, size_t n_all)>;

/// What was measured until it was done, stopped, or failed.
struct Outcome {
    std::vector<Row> rows;
    std::optional<Error> error;
};

struct RunnerOptions {
    int64_t max_context = 0;  // tokens of prompt and answer; a prompt that is longer loses its middle. 0: no limit
    bool average = false;     // a row of the mean over the subtasks, too
    CountProgress progress;
    std::function<void()> on_cut;  // a prompt lost its middle
    std::function<void(const Sample&, const Setting&, const std::string& prediction, double score)> on_answer;
};

/// Asks every sample under every setting, taking the likeliest tokens, and averages the scores by subtask, length and
/// depth, and over all depths.
Outcome run_samples(const Engine& engine, std::span<const Sample> samples, std::span<const Setting> settings,
                    const RunnerOptions& options);

}  // namespace cake::eval
