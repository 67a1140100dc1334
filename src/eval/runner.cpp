#include "eval/runner.hpp"

#include <algorithm>
#include <map>
#include <tuple>

namespace cake::eval {

namespace {

/// What a row is about: subtask, length, and depth, which is kAllDepths in a row that takes them together.
using Cell = std::tuple<std::string, int64_t, double>;
constexpr double kAllDepths = -1;

/// The cells that a sample counts in.
std::vector<Cell> cells_of(const Sample& sample) {
    std::vector<Cell> cells;
    const std::vector<std::string> one(1);
    for (const auto& subtask : sample.subtasks.empty() ? one : sample.subtasks) {
        cells.emplace_back(subtask, sample.length_tokens, kAllDepths);
        if (sample.depth >= 0) cells.emplace_back(subtask, sample.length_tokens, sample.depth);
    }
    return cells;
}

/// Shortens a prompt to `most` tokens, where that is no 0: instructions and question stand at its ends.
bool cut_middle(std::vector<Token>& tokens, int64_t most) {
    const auto n = static_cast<int64_t>(tokens.size());
    if (most == 0 || n <= most) return false;
    const auto begin = tokens.begin() + most / 2;
    tokens.erase(begin, begin + (n - most));
    return true;
}

/// The answer: up to the limit, the end of generation, or what the sample says.
Result<std::string> answer(const Engine& engine, Sequence& sequence, const Sample& sample) {
    std::string text;
    for (const Token token : sequence.generate({.max_tokens = sample.max_tokens, .sampling = {.temperature = 0}})) {
        text += engine.piece(token);
        if (sample.first_line_only && text.find_first_not_of('\n') != std::string::npos && text.ends_with('\n')) break;
    }
    if (sequence.finish_reason() == FinishReason::failed) return std::unexpected(sequence.error());
    if (sample.first_line_only) {
        text.erase(0, std::min(text.find_first_not_of('\n'), text.size()));
        text.erase(std::min(text.find('\n'), text.size()));
    }
    return text;
}

}  // namespace

std::vector<Setting> all_settings(std::span<const std::string> policies, std::span<const int64_t> budgets,
                                  const SequenceOptions& common) {
    std::vector<Setting> settings;
    for (const auto& policy : policies) {
        Setting setting{.policy = policy, .budget = 0, .options = common};
        setting.options.policy = policy;
        if (policy == "full") {
            settings.push_back(setting);
            continue;
        }
        for (const int64_t budget : budgets) {
            setting.budget = budget;
            setting.options.budget = TokensPerLayer{budget};
            settings.push_back(setting);
        }
    }
    return settings;
}

Result<std::vector<Sequence>> read_for_all(const Engine& engine, std::span<const Setting> settings,
                                           std::span<const Token> tokens, int64_t max_more_tokens,
                                           const ProgressFunction& progress) {
    std::vector<Sequence> sequences;
    for (const auto& setting : settings) {
        SequenceOptions options = setting.options;
        if (setting.budget == 0) options.max_tokens = static_cast<int64_t>(tokens.size()) + max_more_tokens;
        auto sequence = engine.sequence(options);
        if (!sequence) return fail(setting.policy + ": " + sequence.error().message);
        sequences.push_back(std::move(*sequence));
    }
    if (auto read = append_to_all(sequences, tokens, {.progress = progress}); !read)
        return std::unexpected(read.error());
    return sequences;
}

Result<std::vector<Row>> run_samples(const Engine& engine, std::span<const Sample> samples,
                                     std::span<const Setting> settings, const RunnerOptions& options) {
    std::vector<Cell> cells;  // in the order of the samples
    std::map<std::pair<Cell, size_t>, std::vector<double>> scores;
    const auto go_on = [&](size_t n_done) { return !options.progress || options.progress(n_done, samples.size()); };
    for (size_t i = 0; i < samples.size() && go_on(i); i++) {
        const Sample& sample = samples[i];
        auto tokens = engine.tokenize(sample.prompt);
        if (!tokens) return std::unexpected(tokens.error());
        if (cut_middle(*tokens, options.max_prompt) && options.on_cut) options.on_cut();
        bool stopped = false;
        auto sequences = read_for_all(engine, settings, *tokens, sample.max_tokens, [&](int64_t, int64_t) {
            stopped = !go_on(i);
            return !stopped;
        });
        if (stopped) break;
        if (!sequences) return std::unexpected(sequences.error());
        for (const auto& cell : cells_of(sample)) {
            if (!std::ranges::contains(cells, cell)) cells.push_back(cell);
        }
        for (size_t s = 0; s < settings.size(); s++) {
            const auto prediction = answer(engine, (*sequences)[s], sample);
            if (!prediction) return std::unexpected(prediction.error());
            const double score = sample.metric(*prediction, sample);
            for (const auto& cell : cells_of(sample)) scores[{cell, s}].push_back(score);
            if (options.on_answer) options.on_answer(sample, settings[s], *prediction, score);
        }
    }
    std::vector<Row> rows;
    for (size_t s = 0; s < settings.size(); s++) {
        for (const auto& cell : cells) {
            const auto& values = scores[{cell, s}];
            rows.push_back({.policy = settings[s].policy,
                            .budget = settings[s].budget,
                            .subtask = std::get<0>(cell),
                            .length_tokens = std::get<1>(cell),
                            .depth = std::get<2>(cell),
                            .n_samples = values.size(),
                            .figures = {{.name = "score", .value = mean(values), .interval = confidence(values)}}});
        }
    }
    return rows;
}

}  // namespace cake::eval
