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

/// A policy with a budget, to be compared with other settings.
struct Setting {
    std::string policy;
    int64_t budget = 0;  // tokens per layer; 0: no bound
    SequenceOptions options;
};

/// Every policy with every budget; a policy that takes no budget appears once.
std::vector<Setting> all_settings(std::span<const std::string> policies, std::span<const int64_t> budgets,
                                  const SequenceOptions& common);

/// Creates an empty sequence for each setting, for a text of `n_tokens` tokens and at most `max_more_tokens` after it.
/// `number` is the index of the text; it varies the seed of random scorers.
Result<std::vector<Sequence>> open_all(const Engine& engine, std::span<const Setting> settings, int64_t n_tokens,
                                       int64_t max_more_tokens, size_t number);

/// Creates a sequence for each setting as open_all() does, and prefills the same text into all of them.
Result<std::vector<Sequence>> read_for_all(const Engine& engine, std::span<const Setting> settings,
                                           std::span<const Token> tokens, int64_t max_more_tokens, size_t number,
                                           const ProgressFunction& progress);

/// Progress callback: `n_done` of `n_all` samples are finished. Called many times per sample; return false to stop.
using CountProgress = std::function<bool(size_t n_done, size_t n_all)>;

/// Results up to the point where a run was finished, was stopped, or failed.
struct Outcome {
    std::vector<Row> rows;
    std::optional<Error> error;
};

struct RunnerOptions {
    int64_t max_context = 0;  // max tokens of prompt and answer; a longer prompt loses its middle; 0: no limit
    bool blind = false;       // read and evict the text before the question is known
    bool decode = false;      // decode text and question token by token, as the tokens of an answer are
    bool average = false;     // add a row with the mean over the subtasks
    CountProgress progress;
    std::function<void()> on_cut;  // called if a prompt lost its middle
    std::function<void(const Sample&, const Setting&, const std::string& prediction, double score)> on_answer;
};

/// Runs every sample under every setting with greedy decoding. Averages the scores by subtask, length and depth, and
/// over all depths.
Outcome run_samples(const Engine& engine, std::span<const Sample> samples, std::span<const Setting> settings,
                    const RunnerOptions& options);

}  // namespace cake::eval
