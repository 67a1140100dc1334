#include <fmt/format.h>
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>

#include <ranges>
#include <set>

#include "cli/commands.hpp"
#include "cli/eval_options.hpp"
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
#include "text/json_text.hpp"

namespace cake::cli {

namespace {

constexpr std::string_view kBundledModel = "cake-mini";  // prefix of its general.name

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
            complain(fmt::format(
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
        if (auto chosen = choose(*samples); !chosen) return {.rows = {}, .error = chosen.error()};
        *samples = eval::with_more_questions(std::move(*samples), flags_.n_questions, flags_.seed);
        std::ofstream answers;
        if (!flags_.answers.empty()) answers.open(flags_.answers);
        if (!answers) return {.rows = {}, .error = Error{fmt::format("{}: {}", flags_.answers, std::strerror(errno))}};
        auto outcome = eval::run_samples(
            engine, *samples, flags_.settings,
            {.max_context = flags_.data.empty() ? 0 : max_context(engine),
             .blind = flags_.blind,
             .decode = flags_.decode,
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

    /// Applies --subtask and --max-answer.
    Result<void> choose(std::vector<eval::Sample>& samples) const {
        std::set<std::string> names;
        for (const auto& sample : samples) names.insert_range(sample.subtasks);
        for (const auto& wanted : flags_.subtasks) {
            if (names.contains(wanted)) continue;
            const auto known = names | std::views::join_with(std::string_view(", ")) | std::ranges::to<std::string>();
            return fail(fmt::format("--subtask: there is no \"{}\" here, only {}", wanted, known));
        }
        const auto is_other = [&](const std::string& name) { return !std::ranges::contains(flags_.subtasks, name); };
        if (!flags_.subtasks.empty())
            std::erase_if(samples, [&](const auto& sample) { return std::ranges::all_of(sample.subtasks, is_other); });
        for (auto& sample : samples)
            if (flags_.max_answer > 0) sample.max_tokens = std::min(sample.max_tokens, flags_.max_answer);
        return {};
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
        out << json_text(line) << '\n' << std::flush;
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
        const auto title = fmt::format("{}: {}", engine.info().name, flags_.task);
        const bool map = flags_.plot_kind == "auto" ? task_ != nullptr && task_->by_depth : flags_.plot_kind == "map";
        return eval::draw_svg(map ? eval::heat_map(rows, title) : eval::line_plot(rows, title), flags_.plot);
    }

    const EvalFlags& flags_;
    const eval::Task* task_;  // null: fidelity
    std::unique_ptr<ProgressBar> bar_;
    size_t n_cut_ = 0;
};

}  // namespace

void add_eval(CLI::App& app, std::function<int()>& action) {
    auto flags = std::make_shared<EvalFlags>();
    auto* command = app.add_subcommand("eval", "measure what eviction costs: retrieval, benchmarks, fidelity");
    add_eval_options(*command, *flags);
    command->callback([flags, command, &action] {
        check_eval_options(*command, *flags);
        action = [flags] { return Eval(*flags).execute(); };
    });
}

}  // namespace cake::cli
