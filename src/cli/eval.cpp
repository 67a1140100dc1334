#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <format>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>

#include "cake/policy.hpp"
#include "cli/commands.hpp"
#include "cli/flags.hpp"
#include "cli/input.hpp"
#include "cli/interrupt.hpp"
#include "cli/output.hpp"
#include "cli/parse.hpp"
#include "cli/progress.hpp"
#include "eval/fidelity.hpp"
#include "eval/plot.hpp"
#include "eval/questions.hpp"
#include "eval/runner.hpp"
#include "eval/task.hpp"

namespace cake::cli {

namespace {

constexpr const char* kFidelity = "fidelity";
constexpr std::string_view kBundledModel = "cake-mini";  // prefix of its general.name

struct EvalFlags {
    std::string task;
    ModelFlags model;
    KvFlags kv;
    std::vector<std::string> policies = {kFullPolicy, "snapkv", "cake"};
    std::vector<int64_t> budgets = {128, 512};
    std::vector<int64_t> lengths;
    std::vector<double> depths = {0, 25, 50, 75, 100};
    int32_t n_samples = 20;
    int32_t n_skip = 0;
    int32_t n_questions = 1;
    int64_t n_continuation = 256;
    uint64_t seed = 1;
    std::string wording = "auto";
    std::string filler = "generated";
    std::vector<std::string> data;
    int64_t max_prompt = 0;
    bool keep_going = false;
    std::string format = "table";
    std::string plot;
    std::string plot_kind = "auto";
    std::string answers;

    std::vector<eval::Setting> settings;  // combinations of policies and budgets
};

std::string task_names() {
    std::string names;
    for (const auto& task : eval::tasks()) names += std::string(task.name) + ", ";
    return names + kFidelity;
}

std::string task_list() {
    std::string text = "tasks:\n";
    for (const auto& task : eval::tasks()) text += std::format("  {:<14}{}\n", task.name, task.summary);
    return text + std::format("  {:<14}{}\n", kFidelity,
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

/// All combinations of policies and budgets. Throws a usage error if one of them is not possible.
std::vector<eval::Setting> checked_settings(const EvalFlags& flags) {
    auto settings = eval::all_settings(flags.policies, flags.budgets, flags.kv.options);
    for (const auto& setting : settings) {
        if (auto valid = validate(setting.options); !valid)
            throw CLI::ValidationError(setting.policy + ": " + valid.error().message);
        if (setting.budget > 0 && setting.budget < setting.options.window) {
            throw CLI::ValidationError(
                std::format("a budget of {} tokens a layer cannot hold the window of {}: use a "
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

class Eval {
  public:
    explicit Eval(const EvalFlags& flags) : flags_(flags), task_(eval::find_task(flags.task)) {}

    int execute() {
        catch_interrupts();
        if (auto done = run(); !done) {
            complain(done.error().message);
            return kFailed;
        }
        return interrupted() ? kInterrupted : kDone;
    }

  private:
    Result<void> run() {
        if (!flags_.plot.empty()) {
            if (auto there = eval::check_plotter(); !there) return there;
        }
        auto engine = flags_.model.load();
        if (!engine) return std::unexpected(engine.error());
        bar_ = std::make_unique<ProgressBar>(flags_.task);
        const auto outcome = task_ != nullptr ? ask(*engine) : compare(*engine);
        bar_.reset();
        if (n_cut_ > 0) {
            complain(std::format(
                "note: {} prompts with their answers were longer than {} tokens, and their middle was cut out "
                "(--max-prompt)",
                n_cut_, max_context(*engine)));
        }
        if (interrupted()) complain("stopped: these are the results so far");
        if (auto shown = show(outcome.rows, *engine); !shown) return shown;
        if (outcome.error) return std::unexpected(*outcome.error);
        return {};
    }

    std::vector<int64_t> lengths(const Engine& engine) const {
        if (!flags_.lengths.empty()) return flags_.lengths;
        const int64_t trained = engine.info().n_ctx_train;
        std::vector<int64_t> result = {1024, 2048, 4096};
        std::erase_if(result, [&](int64_t n) { return n > trained; });
        return result.empty() ? std::vector{trained} : result;
    }

    int64_t max_context(const Engine& engine) const {
        return flags_.max_prompt > 0 ? flags_.max_prompt : engine.info().n_ctx_train;
    }

    eval::Wording wording(const Engine& engine) const {
        const bool bundled =
            flags_.wording == "auto" ? engine.info().name.starts_with(kBundledModel) : flags_.wording == "bundled";
        return bundled ? eval::Wording::bundled : eval::Wording::published;
    }

    bool go_on(size_t n_done, size_t n_all) {
        bar_->update_count(static_cast<int64_t>(n_done), static_cast<int64_t>(n_all));
        return !interrupted();
    }

    static eval::TokenCounter counter(const Engine& engine) {
        const auto count = [&engine](std::string_view text) {
            const auto tokens = engine.tokenize(text, false);
            return tokens ? static_cast<int64_t>(tokens->size()) : 0;
        };
        const int64_t n_first = engine.first_token() ? 1 : 0;
        const ChatMessage empty{.role = "user", .content = {}};
        const auto around = engine.chat_tokens({&empty, 1});
        return {.count = count,
                .n_first = n_first,
                .n_template = around ? static_cast<int64_t>(around->size()) - n_first : 0};
    }

    Result<eval::TaskInput> task_input(const Engine& engine) {
        eval::TaskInput input{.lengths = lengths(engine),
                              .depths = {},
                              .n_samples = flags_.n_samples,
                              .n_skip = flags_.n_skip,
                              .seed = flags_.seed,
                              .wording = wording(engine),
                              .filler = flags_.filler,
                              .filler_text = {},
                              .data = flags_.data,
                              .keep_going = flags_.keep_going,
                              .counter = counter(engine),
                              .warn = [](const std::string& message) { complain("warning: " + message); },
                              .progress = [](size_t) { return !interrupted(); }};
        for (const double percent : flags_.depths) input.depths.push_back(percent / 100);
        if (flags_.filler != "generated" && flags_.filler != "repeated") {
            auto text = read_file(flags_.filler);
            if (!text)
                return fail("--filler must be generated, repeated, or the path of a text file; " +
                            text.error().message);
            input.filler = "text";
            input.filler_text = std::move(*text);
        }
        return input;
    }

    eval::Outcome ask(const Engine& engine) {
        const auto input = task_input(engine);
        if (!input) return {.rows = {}, .error = input.error()};
        auto samples = task_->make_samples(*input);
        if (!samples) return {.rows = {}, .error = samples.error()};
        *samples = eval::with_more_questions(std::move(*samples), flags_.n_questions, flags_.seed);
        std::ofstream answers;
        if (!flags_.answers.empty()) answers.open(flags_.answers);
        if (!answers) return {.rows = {}, .error = Error{std::format("{}: {}", flags_.answers, std::strerror(errno))}};
        auto outcome = eval::run_samples(
            engine, *samples, flags_.settings,
            {.max_context = flags_.data.empty() ? 0 : max_context(engine),
             .average = task_->averages,
             .progress = [this](size_t n_done, size_t n_all) { return go_on(n_done, n_all); },
             .on_cut = [this] { n_cut_++; },
             .on_answer =
                 [&](const eval::Sample& sample, const eval::Setting& setting, const std::string& text, double score) {
                     if (answers.is_open())
                         write_answer(answers, {.sample = sample,
                                                .number = &sample - samples->data(),
                                                .setting = setting,
                                                .text = text,
                                                .score = score});
                 }});
        if (!flags_.answers.empty() && !answers && !outcome.error)
            outcome.error = Error{flags_.answers + ": could not be written completely"};
        return outcome;
    }

    struct Answer {
        const eval::Sample& sample;
        ptrdiff_t number;
        const eval::Setting& setting;
        const std::string& text;
        double score;
    };

    /// Writes one line and flushes it, so that no answer is lost if a long evaluation is stopped.
    static void write_answer(std::ofstream& out, const Answer& answer) {
        const auto& [sample, number, setting, text, score] = answer;
        nlohmann::ordered_json line = {
            {"sample", number}, {"text", sample.text}, {"policy", setting.policy}, {"budget", setting.budget}};
        if (!sample.subtasks.empty()) line["subtask"] = sample.subtasks.front();
        if (sample.length_tokens > 0) line["length"] = sample.length_tokens;
        if (sample.depth >= 0) line["depth"] = sample.depth;
        line["answers"] = sample.answers;
        line["prediction"] = text;
        line["score"] = score;
        out << line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) << '\n' << std::flush;
    }

    eval::Outcome compare(const Engine& engine) {
        std::vector<eval::FidelityInput> texts;
        for (const auto& path : flags_.data) {
            auto text = read_file(path);
            if (!text) return {.rows = {}, .error = text.error()};
            for (const int64_t length : lengths(engine)) {
                texts.push_back({.name = std::filesystem::path(path).stem().string(),
                                 .text = *text,
                                 .n_prompt = length,
                                 .n_continuation = flags_.n_continuation,
                                 .n_samples = flags_.n_samples});
            }
        }
        return eval::fidelity(engine, texts, flags_.settings,
                              [this](size_t n_done, size_t n_all) { return go_on(n_done, n_all); });
    }

    Result<void> show(const std::vector<eval::Row>& rows, const Engine& engine) const {
        if (rows.empty()) return {};
        const auto text = flags_.format == "json"  ? eval::to_json(rows, flags_.task, engine.info().path)
                          : flags_.format == "csv" ? eval::to_csv(rows)
                                                   : eval::to_table(rows);
        if (auto written = write_output(text); !written || flags_.plot.empty()) return written;
        const auto title = std::format("{}: {}", engine.info().name, flags_.task);
        const bool map = flags_.plot_kind == "auto" ? task_ != nullptr && task_->by_depth : flags_.plot_kind == "map";
        return eval::draw_svg(map ? eval::heat_map(rows, title) : eval::line_plot(rows, title), flags_.plot);
    }

    const EvalFlags& flags_;
    const eval::Task* task_;  // null: fidelity
    std::unique_ptr<ProgressBar> bar_;
    size_t n_cut_ = 0;
};

/// Refuses flags that have no effect on the task.
void check_task(const EvalFlags& flags, const CLI::App& command) {
    const auto* task = eval::find_task(flags.task);
    if (task == nullptr && flags.task != kFidelity)
        throw CLI::ValidationError(std::format("there is no task \"{}\"; use one of: {}", flags.task, task_names()));
    const bool reads_files = task == nullptr || task->data == eval::Data::required || !flags.data.empty();
    if (reads_files && flags.data.empty())
        throw CLI::RequiredError(std::format("--data, the files that {} reads,", flags.task));
    const auto only = [&](const char* flag, bool used, const char* by) {
        if (command.count(flag) > 0 && !used)
            throw CLI::ValidationError(std::format("{} has no meaning for {}: it is for {}", flag, flags.task, by));
    };
    const bool made = task != nullptr && !reads_files;
    only("--data", task == nullptr || task->data != eval::Data::none, "tasks that read files");
    only("--depths", task != nullptr && task->by_depth, "niah");
    only("--lengths", made || task == nullptr, "fidelity and tasks that generate their texts");
    only("--filler", made, "tasks that generate their texts");
    only("--wording", made, "tasks that generate their texts");
    only("--continuation", task == nullptr, "fidelity");
    only("--skip", task != nullptr, "tasks that have answers");
    only("--questions", task != nullptr && task->has_facts, "ruler, kv-retrieval and longeval");
    only("--answers", task != nullptr, "tasks that have answers");
    only("--max-prompt", task != nullptr && reads_files, "tasks that read files");
    if (command.count("--kv-budget") > 0 &&
        std::ranges::all_of(flags.policies, [](const auto& p) { return p == kFullPolicy; }))
        throw CLI::ValidationError("--kv-budget: the policy full keeps everything and takes no budget: leave it out");
    if (flags.plot_kind == "map" && (task == nullptr || !task->by_depth))
        throw CLI::ValidationError("--plot-kind map needs depths, which only niah has: use lines");
}

}  // namespace

void add_eval(CLI::App& app, std::function<int()>& action) {
    auto flags = std::make_shared<EvalFlags>();
    auto* command = app.add_subcommand("eval", "measure what eviction costs: retrieval, benchmarks, fidelity");
    command->footer(task_list());
    command->add_option("task", flags->task, "the task to run (see below)")->type_name("TASK")->required();
    flags->model.add_to(*command);
    const auto many = [&](const char* name, auto& values, const char* what, const char* type) {
        return command->add_option(name, values, what)
            ->type_name(type)
            ->delimiter(',')
            ->allow_extra_args(false)
            ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    };
    many("--policy", flags->policies, "policies to compare, as in cake run (default: full,snapkv,cake)", "NAME,…");
    many("--kv-budget", flags->budgets, "tokens that a layer keeps on average (default: 128,512)", "TOKENS,…")
        ->check(CLI::Range(int64_t{1}, int64_t{1} << 30));
    many("--lengths", flags->lengths, "text lengths (default: 1024, 2048 and 4096, up to the model's trained context)",
         "TOKENS,…")
        ->check(CLI::Range(int64_t{1}, int64_t{1} << 28));
    many("--depths", flags->depths, "depths at which niah hides the fact, in percent (default: 0,25,50,75,100)",
         "PERCENT,…")
        ->check(number_in(0, 100));
    command
        ->add_option("--samples", flags->n_samples,
                     "samples for each length and depth, samples from each file, or passages from each text")
        ->type_name("N")
        ->check(CLI::Range(1, 1 << 24))
        ->capture_default_str();
    command->add_option("--skip", flags->n_skip, "samples to skip first, so that an evaluation can be run in pieces")
        ->type_name("N")
        ->check(CLI::Range(0, 1 << 24))
        ->capture_default_str();
    command
        ->add_option(
            "--questions", flags->n_questions,
            "questions about each text that states several facts of one form; the text is read once for all of them")
        ->type_name("N")
        ->check(CLI::Range(1, 10'000))
        ->capture_default_str();
    command->add_option("--continuation", flags->n_continuation, "tokens that fidelity compares after each passage")
        ->type_name("N")
        ->check(CLI::Range(int64_t{1}, int64_t{1} << 24))
        ->capture_default_str();
    command->add_option("--seed", flags->seed, "seed of the samples")->type_name("N")->capture_default_str();
    command
        ->add_option("--wording", flags->wording,
                     "wording of facts and questions: the bundled model's or the published benchmarks'; auto: depends "
                     "on the model")
        ->check(CLI::IsMember({"auto", "bundled", "published"}))
        ->capture_default_str();
    command
        ->add_option("--filler", flags->filler,
                     "text to hide the facts in: generated, repeated, or the path of a text file")
        ->type_name("NAME|FILE")
        ->capture_default_str();
    many("--data", flags->data, "the task's files, or folders that contain them", "FILE,…");
    command
        ->add_option("--max-prompt", flags->max_prompt,
                     "maximum tokens of a prompt from a file and its answer; the middle of a longer prompt is cut out "
                     "(default: the trained context)")
        ->type_name("TOKENS")
        ->check(CLI::Range(1, 1 << 28));
    command->add_flag("--keep-going", flags->keep_going, "skip malformed lines of files");
    command->add_option("-o,--output", flags->format, "output format")
        ->check(CLI::IsMember({"table", "json", "csv"}))
        ->capture_default_str();
    command->add_option("--plot", flags->plot, "plot the results to this SVG file")->type_name("FILE");
    command
        ->add_option("--plot-kind", flags->plot_kind,
                     "lines by budget, or a map by length and depth; auto: a map for niah")
        ->check(CLI::IsMember({"auto", "lines", "map"}))
        ->capture_default_str();
    command->add_option("--answers", flags->answers, "write every answer to this file, one JSON object per line")
        ->type_name("FILE");
    flags->kv.add_method_to(*command);
    command->callback([flags, command, &action] {
        check_task(*flags, *command);
        drop_repeated(flags->policies);
        drop_repeated(flags->budgets);
        drop_repeated(flags->lengths);
        drop_repeated(flags->depths);
        flags->kv.options.seed = flags->seed;
        flags->settings = checked_settings(*flags);
        warn_of_unread_flags(*command, options_of(flags->settings));
        action = [flags] { return Eval(*flags).execute(); };
    });
}

}  // namespace cake::cli
