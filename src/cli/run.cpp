#include <unistd.h>

#include <chrono>
#include <format>
#include <memory>
#include <optional>

#include "cli/commands.hpp"
#include "cli/interrupt.hpp"
#include "cli/output.hpp"
#include "cli/parse.hpp"
#include "cli/progress.hpp"
#include "cli/report.hpp"

namespace cake::cli {

namespace {

struct RunFlags {
    ModelFlags model;
    KvFlags kv;
    SequenceOptions options;  // what kv says
    std::optional<std::string> prompt;
    std::optional<std::string> file;
    int64_t max_prompt = 0;
    int64_t n_predict = -1;
    int64_t n_ctx = 0;
    SamplingOptions sampling;
    bool ignore_eos = false;
    bool json = false;
};

class Run {
  public:
    explicit Run(const RunFlags& flags) : flags_(flags), options_(flags.options) {}

    int execute() {
        catch_interrupts();
        auto done = run();
        if (done) return kDone;
        // The first reason counts: a text that was stopped by Ctrl-C has no other.
        if (interrupted() && done.error().message == "cancelled") {
            complain("stopped before the prompt was read");
            return kInterrupted;
        }
        complain(done.error().message);
        return kFailed;
    }

  private:
    Result<void> run() {
        auto text = flags_.file ? read_input(*flags_.file) : Result<std::string>(flags_.prompt.value_or(""));
        if (!text) return std::unexpected(text.error());
        auto engine = Engine::load(flags_.model.path, flags_.model.engine_options());
        if (!engine) return std::unexpected(engine.error());
        auto tokens = prompt_tokens(*engine, *text);
        if (!tokens) return std::unexpected(tokens.error());
        set_context(options_, *engine, static_cast<int64_t>(tokens->size()));
        auto sequence = engine->sequence(options_);
        if (!sequence) return std::unexpected(sequence.error());
        warn_beyond_training(*engine, static_cast<int64_t>(tokens->size()));
        report_.policy = policy_name(options_);
        if (auto read = read_prompt(*sequence, *tokens); !read) return read;
        if (auto generated = generate(*engine, *sequence); !generated) return generated;
        return finish(*engine, *sequence);
    }

    Result<std::vector<Token>> prompt_tokens(const Engine& engine, const std::string& text) const {
        if (text.empty())
            return fail("the prompt is empty: give a text with -p, a file with -f, or \"-f -\" for standard input");
        auto tokens = engine.tokenize(text);
        if (!tokens) return tokens;
        if (flags_.max_prompt > 0 && static_cast<int64_t>(tokens->size()) > flags_.max_prompt) {
            tokens->resize(static_cast<size_t>(flags_.max_prompt));
        }
        return tokens;
    }

    /// -c bounds text and answer; without it the cache of `full` is made as large as this run needs.
    void set_context(SequenceOptions& options, const Engine& engine, int64_t n_prompt) {
        const bool evicts = options.policy != "full" || !options.scorer.empty();
        options.max_tokens = flags_.n_ctx;
        if (flags_.n_ctx == 0 && !evicts) {
            const int64_t open_end = std::max<int64_t>(n_prompt + 1024, engine.info().n_ctx_train);
            options.max_tokens = flags_.n_predict >= 0 ? n_prompt + std::max<int64_t>(flags_.n_predict, 1) : open_end;
        }
        n_predict_ = flags_.n_predict;
        if (options.max_tokens > 0) {
            const int64_t room = std::max<int64_t>(options.max_tokens - n_prompt, 0);
            n_predict_ = n_predict_ < 0 ? room : std::min(n_predict_, room);
        }
    }

    static std::string policy_name(const SequenceOptions& options) {
        if (options.scorer.empty() && options.allocator.empty()) return options.policy;
        return std::format("{} (scorer {}, allocator {})", options.policy,
                           options.scorer.empty() ? "as is" : options.scorer,
                           options.allocator.empty() ? "as is" : options.allocator);
    }

    static void warn_beyond_training(const Engine& engine, int64_t n_prompt) {
        if (n_prompt <= engine.info().n_ctx_train) return;
        complain(
            std::format("warning: the prompt has {} tokens and the model was trained on texts of {}; it goes on, but "
                        "may answer badly",
                        format_count(static_cast<uint64_t>(n_prompt)),
                        format_count(static_cast<uint64_t>(engine.info().n_ctx_train))));
    }

    Result<void> read_prompt(Sequence& sequence, const std::vector<Token>& tokens) {
        report_.prompt_tokens = static_cast<int64_t>(tokens.size());
        ProgressBar bar(std::format("reading {} tokens", format_count(tokens.size())));
        const auto begin = Clock::now();
        auto read = sequence.append(tokens, {.progress = [&](int64_t done, int64_t total) {
                                        bar.update(done, total);
                                        return !interrupted();
                                    }});
        report_.prefill_seconds = seconds_since(begin);
        return read;
    }

    Result<void> generate(const Engine& engine, Sequence& sequence) {
        auto first = Clock::now();
        for (const Token token : sequence.generate({.max_tokens = n_predict_,
                                                    .ignore_eos = flags_.ignore_eos,
                                                    .sampling = flags_.sampling,
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
    static double seconds_since(Clock::time_point begin) {
        return std::chrono::duration<double>(Clock::now() - begin).count();
    }

    const RunFlags& flags_;
    SequenceOptions options_;
    RunReport report_;
    int64_t n_predict_ = -1;
};

}  // namespace

void add_run(CLI::App& app, std::function<int()>& action) {
    auto flags = std::make_shared<RunFlags>();
    auto* run = app.add_subcommand("run", "read a prompt, write what follows");
    flags->model.add_to(*run);
    run->add_option("-p,--prompt", flags->prompt, "the prompt")->type_name("TEXT");
    run->add_option("-f,--file", flags->file, "a file with the prompt; -, with or without -f, is standard input")
        ->type_name("FILE");
    run->add_option("--max-prompt", flags->max_prompt, "cut a longer prompt to its first tokens")
        ->type_name("TOKENS")
        ->check(CLI::Range(1, 1 << 28));
    run->add_option("-n,--predict", flags->n_predict,
                    "tokens to generate; -1: until the model ends, 0: only read the prompt")
        ->type_name("N")
        ->check(CLI::Range(int64_t{-1}, int64_t{1} << 40))
        ->capture_default_str();
    run->add_option("-c,--ctx-size", flags->n_ctx, "most tokens of prompt and answer together; 0: no limit")
        ->type_name("N")
        ->check(CLI::Range(int64_t{0}, int64_t{1} << 28))
        ->capture_default_str();
    flags->kv.add_to(*run);

    constexpr const char* kSampling = "How the next token is drawn";
    auto& s = flags->sampling;
    run->add_option_function<int64_t>(
           "-s,--seed", [&s](int64_t seed) { s.seed = static_cast<uint32_t>(seed); },
           "seed; -1, the default: a different one each time")
        ->type_name("N")
        ->check(CLI::Range(int64_t{-1}, int64_t{0xFFFFFFFF}))
        ->group(kSampling);
    run->add_option("--temp", s.temperature, "temperature; 0: always the likeliest")
        ->type_name("X")
        ->check(number_in(0, 1e6))
        ->capture_default_str()
        ->group(kSampling);
    run->add_option("--top-k", s.top_k, "only the K likeliest; 0: all")
        ->type_name("K")
        ->check(CLI::Range(0, 1 << 30))
        ->capture_default_str()
        ->group(kSampling);
    run->add_option("--top-p", s.top_p, "only the likeliest that make up P together; 1: all")
        ->type_name("P")
        ->check(number_in(0, 1))
        ->capture_default_str()
        ->group(kSampling);
    run->add_option("--min-p", s.min_p, "only those at least P times as likely as the likeliest; 0: all")
        ->type_name("P")
        ->check(number_in(0, 1))
        ->capture_default_str()
        ->group(kSampling);
    run->add_flag("--ignore-eos", flags->ignore_eos, "go on where the model would end");
    run->add_flag("--json", flags->json, "print one JSON object with text, timings, memory and layers");

    run->allow_extras();  // "-" has no flag of its own
    run->callback([flags, run, &action] {
        const auto extras = run->remaining();
        const bool standard_input = extras == std::vector<std::string>{"-"};
        if (!extras.empty() && !standard_input) throw CLI::ExtrasError(extras);
        if (flags->prompt.has_value() + flags->file.has_value() + standard_input != 1) {
            throw CLI::RequiredError("one prompt (-p TEXT, -f FILE, or - for standard input)");
        }
        if (standard_input) flags->file = "-";
        flags->options = flags->kv.sequence_options();
        action = [flags] { return Run(*flags).execute(); };
    });
}

}  // namespace cake::cli
