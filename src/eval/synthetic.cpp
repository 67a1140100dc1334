// Tasks that generate their texts: niah, needlebench, ruler, ledger.

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <regex>

#include "eval/jsonl.hpp"
#include "eval/metrics.hpp"
#include "eval/questions.hpp"
#include "eval/task.hpp"

namespace cake::eval {

namespace {

struct Kind {
    std::string_view name;
    MakePuzzle make;
};

/// Generator seeded for one sample, so that more samples, lengths or depths do not change the other samples.
Random seeded(uint64_t seed, std::string_view kind, int64_t length, double depth, int32_t number) {
    std::vector<uint32_t> parts(kind.begin(), kind.end());
    for (const uint64_t part : {seed, static_cast<uint64_t>(length), static_cast<uint64_t>(depth * 1e6 + 2e6),
                                static_cast<uint64_t>(number)}) {
        parts.push_back(static_cast<uint32_t>(part));
        parts.push_back(static_cast<uint32_t>(part >> 32U));
    }
    std::seed_seq sequence(parts.begin(), parts.end());
    return Random(sequence);
}

Result<std::vector<Sample>> hide(const TaskInput& input, std::string_view task, std::span<const Kind> kinds,
                                 std::span<const double> depths) {
    const auto sentences = split_sentences(input.filler_text);
    if (input.filler == "text" && sentences.empty()) return fail("the filler's text contains no sentences");
    std::vector<Sample> samples;
    for (const auto& [name, make] : kinds) {
        for (const int64_t length : input.lengths) {
            for (const double depth : depths) {
                for (int32_t i = input.n_skip; i < input.n_skip + input.n_samples; i++) {
                    if (input.progress && !input.progress(samples.size())) return samples;
                    auto random = seeded(input.seed, fmt::format("{} {}", task, name), length, depth, i);
                    const Puzzle puzzle = make(input.wording, random, length);
                    const auto filler = input.filler == "repeated"    ? repeated_filler()
                                        : input.filler == "generated" ? generated_filler(random)
                                                                      : text_filler(sentences, random);
                    auto sample = bury(puzzle, filler, length, depth, random, input.counter);
                    if (!sample) return fail(sample.error().code, fmt::format("{}: {}", name, sample.error().message));
                    sample->subtasks = {std::string(name)};
                    samples.push_back(std::move(*sample));
                }
            }
        }
    }
    return samples;
}

constexpr double kAnywhere[] = {-1};

/// Answer length and metric of a task from RULER's own files, recognised by a part of its name.
struct RulerTask {
    std::string_view part;
    int32_t max_tokens;
    Metric metric;
};
constexpr RulerTask kRulerTasks[] = {{"vt", 30, contains_all},
                                     {"cwe", 120, contains_all},
                                     {"fwe", 50, contains_all},
                                     {"qa_", 32, contains_any},
                                     {"", 128, contains_all}};  // niah

const RulerTask& ruler_task(std::string_view name) {
    return *std::ranges::find_if(kRulerTasks, [&](const RulerTask& task) { return name.contains(task.part); });
}

/// Task name of a file. RULER writes TASK/validation.jsonl; copies of the data often have TASK.jsonl.
std::string ruler_name(const std::string& file) {
    const std::filesystem::path path(file);
    return path.stem() == "validation" ? path.parent_path().filename().string() : path.stem().string();
}

}  // namespace

Result<std::vector<Sample>> niah_samples(const TaskInput& input) {
    constexpr Kind kKinds[] = {{"single", single}};
    return hide(input, "niah", kKinds, input.depths);
}

Result<std::vector<Sample>> needlebench_samples(const TaskInput& input) {
    constexpr Kind kKinds[] = {{"single", single}, {"multi", multivalue}, {"reasoning", reasoning}};
    return hide(input, "needlebench", kKinds, kAnywhere);
}

Result<std::vector<Sample>> ledger_samples(const TaskInput& input) {
    constexpr Kind kKinds[] = {{"ledger", ledger}};
    return hide(input, "ledger", kKinds, kAnywhere);
}

Result<std::vector<Sample>> ruler_samples(const TaskInput& input) {
    constexpr Kind kKinds[] = {{"single", single},
                               {"multikey", multikey},
                               {"multivalue", multivalue},
                               {"tracking", tracking},
                               {"frequent", frequent}};
    if (input.data.empty()) return hide(input, "ruler", kKinds, kAnywhere);
    return read_samples(input, [](const nlohmann::json& object, const std::string& file) -> Result<Sample> {
        auto prompt = string_field(object, "input");
        if (!prompt) return std::unexpected(prompt.error());
        auto answers = strings_field(object, "outputs");
        if (!answers) return std::unexpected(answers.error());
        const auto name = ruler_name(file);
        const auto& [part, max_tokens, metric] = ruler_task(name);
        Sample sample{.subtasks = {name},
                      .prompt = std::move(*prompt),
                      .answers = std::move(*answers),
                      .metric = metric,
                      .max_tokens = max_tokens,
                      .ends_when_right = true};
        static const std::regex needle(R"(One of the special magic \w+ for (\S+) is: (\S+)\.)");
        if (name.contains("multikey")) state_facts(sample, facts_in(sample.prompt, needle));
        return sample;
    });
}

}  // namespace cake::eval
