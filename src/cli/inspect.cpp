#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "cake/policy.hpp"
#include "cli/commands.hpp"
#include "cli/flags.hpp"
#include "cli/input.hpp"
#include "cli/interrupt.hpp"
#include "cli/output.hpp"
#include "cli/parse.hpp"
#include "cli/progress.hpp"
#include "cli/reading.hpp"
#include "eval/inspection.hpp"

namespace cake::cli {

namespace {

struct InspectFlags {
    ModelFlags model;
    KvFlags kv;
    std::vector<std::string> policies = {kDefaultPolicy};
    std::vector<SequenceOptions> options;  // one for each policy
    std::optional<std::string> prompt;
    std::string file;
    std::string out;
    int64_t max_prompt = 0;
    int64_t segment = 0;
    int64_t n_predict = 64;
};

class Inspect {
  public:
    explicit Inspect(const InspectFlags& flags) : flags_(flags) {}

    int execute() {
        catch_interrupts();
        auto done = run();
        if (done) return kDone;
        complain(interrupted() ? "stopped before the report was written" : done.error().message);
        return interrupted() ? kInterrupted : kFailed;
    }

  private:
    Result<void> run() {
        if (auto place = check_place_of(flags_.out); !place) return place;
        const auto text = flags_.prompt ? Result<std::string>(*flags_.prompt) : read_file(flags_.file);
        if (!text) return std::unexpected(text.error());
        if (text->empty()) return fail("the text is empty: pass one with -p, or a file with -f");
        auto page = make_page(*text);
        if (!page) return std::unexpected(page.error());
        if (flags_.out == "-") return write_output(*page);
        return write_whole_file(flags_.out, *page);
    }

    Result<std::string> make_page(const std::string& text) const {
        const auto engine = flags_.model.load();
        if (!engine) return std::unexpected(engine.error());
        const auto tokens = tokens_of(*engine, text, false, flags_.max_prompt);
        if (!tokens) return std::unexpected(tokens.error());
        warn_beyond_training(*engine, static_cast<int64_t>(tokens->size()));
        std::vector<eval::Inspection> inspections;
        for (auto options : flags_.options) {
            if (options.policy == kFullPolicy)
                options.max_tokens = static_cast<int64_t>(tokens->size()) + std::max<int64_t>(flags_.n_predict, 1);
            ProgressBar bar(fmt::format("{}: reading {} tokens", options.policy, format_count(tokens->size())));
            auto inspection = eval::inspect(*engine, options, *tokens,
                                            {.segment = flags_.segment,
                                             .n_predict = flags_.n_predict,
                                             .progress = shown_on(bar),
                                             .cancelled = interrupted});
            if (!inspection)
                return fail(inspection.error().code, fmt::format("{}: {}", options.policy, inspection.error().message));
            inspections.push_back(std::move(*inspection));
        }
        const auto name = flags_.prompt ? "the prompt" : flags_.file == "-" ? "standard input" : flags_.file;
        return eval::inspection_page(*engine, name, *tokens, inspections);
    }

    const InspectFlags& flags_;
};

}  // namespace

void add_inspect(CLI::App& app, std::function<int()>& action) {
    auto flags = std::make_shared<InspectFlags>();
    auto* command = app.add_subcommand(
        "inspect", "write a page that shows what each layer keeps: budgets, memory, surviving tokens");
    flags->model.add_to(*command);
    auto* prompt = command->add_option("-p,--prompt", flags->prompt, "the text")->type_name("TEXT");
    auto* file =
        command->add_option("-f,--file", flags->file, "a file with the text; - is standard input")->type_name("FILE");
    prompt->excludes(file);
    command->add_option("-o,--output", flags->out, "the page, an HTML file; - is standard output")
        ->type_name("FILE")
        ->required();
    command->add_option("--max-prompt", flags->max_prompt, "cut a longer text to its first tokens")
        ->type_name("TOKENS")
        ->check(CLI::Range(1, 1 << 28));
    command->add_option("-n,--predict", flags->n_predict, "tokens to generate after the text")
        ->type_name("N")
        ->check(CLI::Range(int64_t{0}, int64_t{1} << 28))
        ->capture_default_str();
    add_segment(*command, flags->segment);
    flags->kv.add_budget_to(*command);
    flags->kv.add_method_to(*command);
    command->add_option("--policy", flags->policies, "one policy, or two to show side by side: A,B")
        ->delimiter(',')
        ->take_all()
        ->type_name("NAME")
        ->capture_default_str();
    command->callback([flags, command, &action] {
        if (!flags->prompt && flags->file.empty()) throw CLI::RequiredError("a text (-p TEXT or -f FILE)");
        if (flags->policies.empty() || flags->policies.size() > 2)
            throw CLI::ValidationError("--policy", "pass one policy or two, as in --policy cake,snapkv");
        flags->kv.options.analyse = true;  // the page shows the preference for every policy
        flags->options = flags->kv.options_of(flags->policies);
        warn_of_unread_flags(*command, flags->options);
        action = [flags] { return Inspect(*flags).execute(); };
    });
}

}  // namespace cake::cli
