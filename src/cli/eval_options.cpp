#include "cli/eval_options.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "cli/parse.hpp"
#include "eval/task.hpp"

namespace cake::cli {

namespace {

constexpr const char* kFidelity = "fidelity";

std::string task_names() {
    std::string names;
    for (const auto& task : eval::tasks()) names += std::string(task.name) + ", ";
    return names + kFidelity;
}

std::string task_list() {
    std::string text = "tasks:\n";
    for (const auto& task : eval::tasks()) text += fmt::format("  {:<14}{}\n", task.name, task.summary);
    return text + fmt::format("  {:<14}{}\n", kFidelity,
                              "how close the next-token distributions on a text (--data) stay to the full cache's");
}

template <typename T>
void drop_repeated(std::vector<T>& values) {
    std::vector<T> seen;
    for (const auto& value : values) {
        if (!std::ranges::contains(seen, value)) seen.push_back(value);
    }
    values = std::move(seen);
}

/// All combinations of policies, budgets and pooling kernels.
std::vector<eval::Setting> all_settings(const EvalFlags& flags) {
    const bool compares = flags.pool_kernels.size() > 1;
    std::vector<eval::Setting> settings;
    for (const auto& policy : flags.policies) {
        const bool pools = std::ranges::contains(options_read({.policy = policy}), "pool_kernel");
        for (const int32_t kernel : flags.pool_kernels) {
            auto common = flags.kv.options;
            common.pool_kernel = kernel;
            for (auto& setting : eval::all_settings({&policy, 1}, flags.budgets, common)) {
                if (pools && compares)
                    setting.policy += kernel == 0 ? ", published pooling" : fmt::format(", pooling {}", kernel);
                settings.push_back(std::move(setting));
            }
            if (!pools) break;
        }
    }
    return settings;
}

/// Throws a usage error if a setting is not possible.
std::vector<eval::Setting> checked_settings(const EvalFlags& flags) {
    auto settings = all_settings(flags);
    for (const auto& setting : settings) {
        if (auto valid = validate(setting.options); !valid)
            throw CLI::ValidationError(setting.policy + ": " + valid.error().message);
        if (setting.budget > 0 && setting.budget < setting.options.window) {
            throw CLI::ValidationError(
                fmt::format("a budget of {} tokens a layer cannot hold the window of {}: use a "
                            "larger budget or a smaller --window",
                            setting.budget, setting.options.window));
        }
    }
    return settings;
}

std::vector<SequenceOptions> options_of(const std::vector<eval::Setting>& settings) {
    std::vector<SequenceOptions> result;
    for (const auto& setting : settings) result.push_back(setting.options);
    return result;
}

/// Refuses flags that have no effect on the task.
void check_task(const EvalFlags& flags, const CLI::App& command) {
    const auto* task = eval::find_task(flags.task);
    if (task == nullptr && flags.task != kFidelity)
        throw CLI::ValidationError(fmt::format("there is no task \"{}\"; use one of: {}", flags.task, task_names()));
    const bool reads_files = task == nullptr || task->data == eval::Data::required || !flags.data.empty();
    if (reads_files && flags.data.empty())
        throw CLI::RequiredError(fmt::format("--data, the files that {} reads,", flags.task));
    const auto only = [&](const char* flag, bool used, const char* by) {
        if (command.count(flag) > 0 && !used)
            throw CLI::ValidationError(fmt::format("{} has no meaning for {}: it is for {}", flag, flags.task, by));
    };
    const bool made = task != nullptr && !reads_files;
    only("--data", task == nullptr || task->data != eval::Data::none, "tasks that read files");
    only("--depths", task != nullptr && task->by_depth, "niah");
    only("--lengths", made || task == nullptr, "fidelity and tasks that generate their texts");
    only("--filler", made, "tasks that generate their texts");
    only("--wording", made, "tasks that generate their texts");
    only("--continuation", task == nullptr, "fidelity");
    only("--skip", task != nullptr, "tasks that have answers");
    only("--questions", task != nullptr && task->has_facts, "ruler, ledger, kv-retrieval and longeval");
    only("--blind", task != nullptr, "tasks that have answers");
    only("--decode", task != nullptr, "tasks that have answers");
    only("--subtask", task != nullptr && task->averages, "tasks that have subtasks");
    only("--max-answer", task != nullptr, "tasks that have answers");
    only("--answers", task != nullptr, "tasks that have answers");
    only("--max-prompt", task != nullptr && reads_files, "tasks that read files");
    if (command.count("--kv-budget") > 0 &&
        std::ranges::all_of(flags.policies, [](const auto& p) { return p == kFullPolicy; }))
        throw CLI::ValidationError("--kv-budget: the policy full keeps everything and takes no budget: leave it out");
    if (flags.blind && flags.decode)
        throw CLI::ValidationError("--blind has no meaning with --decode, which asks after each text in any case");
    if (flags.plot_kind == "map" && (task == nullptr || !task->by_depth))
        throw CLI::ValidationError("--plot-kind map needs depths, which only niah has: use lines");
}

}  // namespace

void add_eval_options(CLI::App& command, EvalFlags& flags) {
    command.footer(task_list());
    command.add_option("task", flags.task, "the task to run (see below)")->type_name("TASK")->required();
    flags.model.add_to(command);
    const auto many = [&](const char* name, auto& values, const char* what, const char* type) {
        return command.add_option(name, values, what)
            ->type_name(type)
            ->delimiter(',')
            ->allow_extra_args(false)
            ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    };
    many("--policy", flags.policies, "policies to compare, as in cake run (default: full,snapkv,cake,cake+)", "NAME,…");
    many("--kv-budget", flags.budgets, "tokens that a layer keeps on average (default: 128,512)", "TOKENS,…")
        ->check(CLI::Range(int64_t{1}, int64_t{1} << 30));
    many("--lengths", flags.lengths, "text lengths (default: 1024, 2048 and 4096, up to the model's trained context)",
         "TOKENS,…")
        ->check(CLI::Range(int64_t{1}, int64_t{1} << 28));
    many("--depths", flags.depths, "depths at which niah hides the fact, in percent (default: 0,25,50,75,100)",
         "PERCENT,…")
        ->check(number_in(0, 100));
    command
        .add_option("--samples", flags.n_samples,
                    "samples for each length and depth, samples from each file, or passages from each text")
        ->type_name("N")
        ->check(CLI::Range(1, 1 << 24))
        ->capture_default_str();
    command.add_option("--skip", flags.n_skip, "samples to skip first, so that an evaluation can be run in pieces")
        ->type_name("N")
        ->check(CLI::Range(0, 1 << 24))
        ->capture_default_str();
    command
        .add_option(
            "--questions", flags.n_questions,
            "questions about each text that states several facts of one form; the text is read once for all of them")
        ->type_name("N")
        ->check(CLI::Range(1, 10'000))
        ->capture_default_str();
    many("--subtask", flags.subtasks, "run only these subtasks (default: all)", "NAME,…");
    command
        .add_option("--max-answer", flags.max_answer,
                    "maximum tokens of an answer, if the task allows more; wrong answers then end earlier")
        ->type_name("TOKENS")
        ->check(CLI::Range(1, 1 << 20));
    command.add_flag("--blind", flags.blind, "read each text, and evict from it, before its questions are known");
    command.add_flag(
        "--decode", flags.decode,
        "decode each text and its question token by token, as the tokens of an answer are, instead of reading them");
    command.add_option("--continuation", flags.n_continuation, "tokens that fidelity compares after each passage")
        ->type_name("N")
        ->check(CLI::Range(int64_t{1}, int64_t{1} << 24))
        ->capture_default_str();
    command.add_option("--seed", flags.seed, "seed of the samples")->type_name("N")->capture_default_str();
    command
        .add_option("--wording", flags.wording,
                    "wording of facts and questions: the bundled model's or the published benchmarks'; auto: depends "
                    "on the model")
        ->check(CLI::IsMember({"auto", "bundled", "published"}))
        ->capture_default_str();
    command
        .add_option("--filler", flags.filler,
                    "text to hide the facts in: generated, repeated, or the path of a text file")
        ->type_name("NAME|FILE")
        ->capture_default_str();
    many("--data", flags.data, "the task's files, or folders that contain them", "FILE,…");
    command
        .add_option("--max-prompt", flags.max_prompt,
                    "maximum tokens of a prompt from a file and its answer; the middle of a longer prompt is cut out "
                    "(default: the trained context)")
        ->type_name("TOKENS")
        ->check(CLI::Range(1, 1 << 28));
    command.add_flag("--keep-going", flags.keep_going, "skip malformed lines of files");
    command.add_option("-o,--output", flags.format, "output format")
        ->check(CLI::IsMember({"table", "json", "csv"}))
        ->capture_default_str();
    command.add_option("--plot", flags.plot, "plot the results to this SVG file")->type_name("FILE");
    command
        .add_option("--plot-kind", flags.plot_kind,
                    "lines by budget, or a map by length and depth; auto: a map for niah")
        ->check(CLI::IsMember({"auto", "lines", "map"}))
        ->capture_default_str();
    command.add_option("--answers", flags.answers, "write every answer to this file, one JSON object per line")
        ->type_name("FILE");
    flags.kv.add_method_to(command);
    auto* one_kernel = command.get_option("--pool-kernel");
    const auto group = one_kernel->get_group();
    command.remove_option(one_kernel);
    many("--pool-kernel", flags.pool_kernels,
         "neighbouring tokens over which scores are pooled, odd numbers; 0: as published for the scorer (default: 0)",
         "N,…")
        ->group(group);
}

void check_eval_options(const CLI::App& command, EvalFlags& flags) {
    check_task(flags, command);
    drop_repeated(flags.policies);
    drop_repeated(flags.budgets);
    drop_repeated(flags.lengths);
    drop_repeated(flags.depths);
    drop_repeated(flags.pool_kernels);
    flags.kv.options.seed = flags.seed;
    flags.settings = checked_settings(flags);
    warn_of_unread_flags(command, options_of(flags.settings));
}

}  // namespace cake::cli
