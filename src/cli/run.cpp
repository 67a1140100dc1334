#include <unistd.h>

#include <chrono>
#include <memory>
#include <optional>

#include "cli/commands.hpp"
#include "cli/flags.hpp"
#include "cli/input.hpp"
#include "cli/interrupt.hpp"
#include "cli/output.hpp"
#include "cli/parse.hpp"
#include "cli/progress.hpp"
#include "cli/reading.hpp"
#include "cli/report.hpp"

namespace cake::cli {

namespace {

struct RunFlags {
    ModelFlags model;
    KvFlags kv;
    AnswerFlags answer;
    SequenceOptions options;  // options that `kv` sets
    std::optional<std::string> prompt;
    std::optional<std::string> file;
    int64_t max_prompt = 0;
    int64_t segment = 0;
    int64_t n_ctx = 0;
    std::string load_session;
    std::string save_session;
    bool json = false;
};

class Run {
  public:
    explicit Run(const RunFlags& flags) : flags_(flags) {}

    int execute() {
        catch_interrupts();
        auto done = run();
        if (done) return kDone;
        // Report Ctrl-C only if it caused the error, because another error may have come first.
        if (interrupted() && done.error().code == Error::Code::cancelled) {
            complain("stopped before the prompt was read");
            return kInterrupted;
        }
        complain(done.error().message);
        return kFailed;
    }

  private:
    Result<void> run() {
        if (auto place = check_place_of(flags_.save_session); !place) return place;
        auto input = open_input();
        if (!input) return std::unexpected(input.error());
        auto engine = flags_.model.load();
        if (!engine) return std::unexpected(engine.error());
        auto sequence = flags_.segment > 0 ? read_in_segments(*engine, *input) : read_at_once(*engine, *input);
        if (!sequence) return std::unexpected(sequence.error());
        report_.policy = policy_name(sequence->options());
        if (auto generated = generate(*engine, *sequence); !generated) return generated;
        if (!flags_.save_session.empty()) {
            if (auto saved = sequence->save(flags_.save_session); !saved) return saved;
        }
        return finish(*engine, *sequence);
    }

    /// Opens the prompt. Returns nothing if a loaded session continues without a prompt.
    Result<std::optional<Input>> open_input() const {
        if (flags_.prompt) return Input::of(*flags_.prompt);
        if (!flags_.file) return std::nullopt;
        auto opened = Input::open(*flags_.file);
        if (!opened) return std::unexpected(opened.error());
        return std::move(*opened);
    }

    /// Creates a sequence for a prompt of `n_prompt` tokens (0: unknown), or loads the saved session.
    Result<Sequence> open_sequence(const Engine& engine, int64_t n_prompt) const {
        return flags_.load_session.empty() ? engine.sequence(options_for(engine, n_prompt))
                                           : Sequence::load(engine, flags_.load_session);
    }

    /// Options of a new sequence. -c limits prompt and answer. Without -c, the cache of `full` is as large as this run
    /// needs.
    SequenceOptions options_for(const Engine& engine, int64_t n_prompt) const {
        auto options = flags_.options;
        options.max_tokens = flags_.n_ctx;
        if (flags_.n_ctx > 0 || evicts(options)) return options;
        const int64_t n_predict = flags_.answer.n_predict;
        const bool open_end = n_predict < 0 || n_prompt == 0 || !flags_.save_session.empty();
        options.max_tokens = n_prompt + std::max<int64_t>(n_predict, 1);
        if (open_end)
            options.max_tokens = std::max({options.max_tokens, n_prompt + 1024, int64_t{engine.info().n_ctx_train}});
        return options;
    }

    Result<Sequence> read_at_once(const Engine& engine, std::optional<Input>& input) {
        auto text = input ? input->read_all() : Result<std::string>("");
        if (!text) return std::unexpected(text.error());
        if (input && text->empty()) return interrupted() ? fail(Error::Code::cancelled, "cancelled") : fail(kEmpty);
        const auto tokens = text->empty() ? Result<std::vector<Token>>(std::vector<Token>())
                                          : tokens_of(engine, *text, !flags_.load_session.empty(), flags_.max_prompt);
        if (!tokens) return std::unexpected(tokens.error());
        report_.prompt_tokens = static_cast<int64_t>(tokens->size());
        auto sequence = open_sequence(engine, report_.prompt_tokens);
        if (!sequence) return sequence;
        warn_beyond_training(engine, sequence->n_tokens() + report_.prompt_tokens);
        if (tokens->empty()) return sequence;
        const auto begin = Clock::now();
        const auto read = read_tokens(*sequence, *tokens);
        report_.prefill_seconds = seconds_since(begin);
        if (!read) return std::unexpected(read.error());
        return sequence;
    }

    Result<Sequence> read_in_segments(const Engine& engine, std::optional<Input>& input) {
        if (!input) return fail(kEmpty);
        auto sequence = open_sequence(engine, 0);
        if (!sequence) return sequence;
        const auto begin = Clock::now();
        const auto n_read = read_stream(engine, *sequence, *input, flags_.segment, flags_.max_prompt);
        report_.prefill_seconds = seconds_since(begin);
        if (!n_read) return std::unexpected(n_read.error());
        if (*n_read == 0) return fail(kEmpty);
        report_.prompt_tokens = *n_read;
        return sequence;
    }

    Result<void> generate(const Engine& engine, Sequence& sequence) {
        auto first = Clock::now();
        for (const Token token : sequence.generate({.max_tokens = n_predict(sequence),
                                                    .ignore_eos = flags_.answer.ignore_eos,
                                                    .sampling = flags_.answer.sampling,
                                                    .cancelled = interrupted})) {
            if (report_.tokens.empty()) first = Clock::now();
            report_.tokens.push_back(token);
            const std::string piece = engine.piece(token);
            report_.text += piece;
            if (flags_.json) continue;
            if (auto written = write_output(piece); !written) return written;
        }
        report_.decode_seconds = seconds_since(first);
        if (sequence.finish_reason() == FinishReason::failed) return std::unexpected(sequence.error());
        return {};
    }

    /// The value of -n, limited to the room in the context.
    int64_t n_predict(const Sequence& sequence) const {
        const int64_t wanted = flags_.answer.n_predict;
        if (sequence.options().max_tokens == 0) return wanted;
        const int64_t room = std::max<int64_t>(sequence.options().max_tokens - sequence.n_tokens(), 0);
        return wanted < 0 ? room : std::min(wanted, room);
    }

    Result<void> finish(const Engine& engine, const Sequence& sequence) const {
        if (flags_.json) {
            const auto object = to_json(report_, engine, sequence);
            return write_output(object.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n");
        }
        if (auto written = write_output(report_.tokens.empty() ? "" : "\n"); !written) return written;
        if (::isatty(STDERR_FILENO) == 1) std::fputs(("\n" + summary(report_, sequence)).c_str(), stderr);
        return {};
    }

    using Clock = std::chrono::steady_clock;

    static constexpr const char* kEmpty =
        "the prompt is empty: pass a text with -p, a file with -f, or \"-f -\" for standard input";

    const RunFlags& flags_;
    RunReport report_;
};

/// Checks combinations of flags.
void check_flags(const RunFlags& flags, const CLI::App& run) {
    const bool loads = !flags.load_session.empty();
    const int n_prompts = flags.prompt.has_value() + flags.file.has_value();
    if (n_prompts > 1 || (n_prompts == 0 && !loads))
        throw CLI::RequiredError("one prompt (-p TEXT, -f FILE, or - for standard input)");
    if (loads) refuse_kept_flags(run, "read the text again");
    if (flags.segment > 0 && n_prompts == 0)
        throw CLI::ValidationError("--segment applies to a text that is read: pass one with -p or -f");
    if (flags.segment > 0 && flags.kv.ratio > 0) {
        throw CLI::ValidationError(
            "--kv-ratio is a share of a text that is read at once: with --segment use --kv-budget or --kv-memory");
    }
}

}  // namespace

void add_run(CLI::App& app, std::function<int()>& action) {
    auto flags = std::make_shared<RunFlags>();
    auto* run = app.add_subcommand("run", "read a prompt and continue it");
    flags->model.add_to(*run);
    run->add_option("-p,--prompt", flags->prompt, "the prompt")->type_name("TEXT");
    run->add_option("-f,--file", flags->file, "a file with the prompt; -, with or without -f, is standard input")
        ->type_name("FILE");
    run->add_option("--max-prompt", flags->max_prompt, "cut a longer prompt to its first tokens")
        ->type_name("TOKENS")
        ->check(CLI::Range(1, 1 << 28));
    add_segment(*run, flags->segment);
    add_context(*run, flags->n_ctx);
    run->add_option("--save-session", flags->save_session,
                    "save the session to a file at the end (with -n 0: only the prompt)")
        ->type_name("FILE");
    run->add_option("--load-session", flags->load_session, "continue a saved session; a prompt is read after it")
        ->type_name("FILE");
    run->add_flag("--json", flags->json, "print one JSON object with text, timings, memory and layers");
    flags->kv.add_to(*run);
    flags->answer.add_to(*run);

    run->allow_extras();  // for "-" without a flag
    run->callback([flags, run, &action] {
        const auto extras = run->remaining();
        const bool standard_input = extras == std::vector<std::string>{"-"};
        if (!extras.empty() && !standard_input) throw CLI::ExtrasError(extras);
        if (standard_input && flags->file) throw CLI::RequiredError("one prompt, not two");
        if (standard_input) flags->file = "-";
        check_flags(*flags, *run);
        flags->options = flags->kv.sequence_options();
        warn_of_unread_flags(*run, {&flags->options, 1});
        action = [flags] { return Run(*flags).execute(); };
    });
}

}  // namespace cake::cli
