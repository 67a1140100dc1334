#include "cli/asking.hpp"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <utility>

#include "cli/ask_options.hpp"
#include "cli/document_file.hpp"
#include "cli/interrupt.hpp"
#include "cli/output.hpp"
#include "cli/parse.hpp"
#include "cli/progress.hpp"
#include "cli/reading.hpp"
#include "cli/report.hpp"
#include "text/repetition.hpp"
#include "text/utf8.hpp"

namespace cake::cli {

namespace {

using Clock = std::chrono::steady_clock;

/// Maximum width of a line of output.
size_t columns_of_output() {
    constexpr size_t kNoTerminal = 120;
    winsize size{};
    return ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : kNoTerminal;
}

/// Returns `piece` without the white space at the beginning of an answer. `text`: the answer before `piece`.
std::string_view begun(std::string_view piece, const std::string& text) {
    if (!text.empty()) return piece;
    return piece.substr(std::min(piece.find_first_not_of(" \t\r\n"), piece.size()));
}

}  // namespace

int Asking::execute() {
    catch_interrupts();
    const auto done = run();
    if (done) return kDone;
    if (interrupted() && done.error().code == Error::Code::cancelled) {
        complain(report_.documents.empty() ? "stopped before the documents were read"
                                           : "stopped while reading a question");
        return report_.answers.empty() ? kInterrupted : kDone;
    }
    complain(done.error().message);
    return kFailed;
}

Result<void> Asking::run() {
    if (auto prepared = prepare(); !prepared) return prepared;
    if (flags_.interactive && editor_.is_terminal())
        std::fputs("Ask a question about the documents. Ctrl-C stops an answer, Ctrl-D quits.\n", stderr);
    auto questions = flags_.questions;
    if (questions.empty()) {
        auto question = next_question();
        if (!question) return {};
        questions.push_back(std::move(*question));
    }
    if (auto asked = ask_first(questions); !asked) return asked;
    for (size_t i = 0; i < questions.size() && !interrupted(); i++) {
        // A file holds the documents as they were read, so that each question can be asked as if it were the only one.
        if (i > 0 && !flags_.document_file.empty() && !flags_.interactive)
            if (auto loaded = load_dialog(); !loaded) return loaded;
        if (auto asked = i == 0 ? Result<void>() : read("", questions[i]); !asked) return asked;
        if (auto answered = answer(questions[i], questions.size() > 1 ? i + 1 : 0); !answered) return answered;
    }
    if (flags_.json) return write_output(to_json(report_, *engine_, dialog_->sequence()) + "\n");
    const bool apart = ::isatty(STDERR_FILENO) == 1;  // on a terminal, an empty line comes before the summary
    std::fputs(((apart ? "\n" : "") + summary(report_, dialog_->sequence())).c_str(), stderr);
    return flags_.interactive ? follow_up() : Result<void>();
}

/// Loads model and documents, and reads the documents if the first question is not known yet.
Result<void> Asking::prepare() {
    if (flags_.document_file.empty()) {
        auto documents = read_documents(flags_.files);
        if (!documents) return std::unexpected(documents.error());
        documents_ = std::move(*documents);
    }
    auto engine = flags_.model.load();
    if (!engine) return std::unexpected(engine.error());
    engine_ = std::make_unique<Engine>(std::move(*engine));
    if (!flags_.document_file.empty()) return load_documents();
    return flags_.questions.empty() && !flags_.policy_given ? read_documents_first() : Result<void>();
}

/// Loads what cake read has saved. The budget is that of the conversation, beside what the documents take.
Result<void> Asking::load_dialog() {
    dialog_.reset();
    auto options = flags_.conversation;
    if (auto applied = flags_.chat_template.apply_to(options); !applied) return applied;
    const auto more = std::get<TokensPerLayer>(options.sequence.budget.value_or(TokensPerLayer{}));
    auto dialog = Dialog::load(*engine_, flags_.document_file, options, more.tokens);
    if (!dialog) return std::unexpected(dialog.error());
    dialog_ = std::make_unique<Dialog>(std::move(*dialog));
    return {};
}

Result<void> Asking::load_documents() {
    const auto begin = Clock::now();
    if (auto loaded = load_dialog(); !loaded) return loaded;
    auto saved = saved_documents(*dialog_, flags_.document_file);
    if (!saved) return std::unexpected(saved.error());
    documents_ = std::move(saved->documents);
    report_.loaded_tokens = dialog_->sequence().n_tokens();
    if (auto found = find_sources(saved->text); !found) return found;
    report_.prefill_seconds = seconds_since(begin);
    return {};
}

Result<void> Asking::read_documents_first() {
    const DocumentText text(documents_, {});
    if (auto started = start(text, {}); !started) return started;
    const auto begin = Clock::now();
    ProgressBar bar("reading for any question");
    const AppendOptions append{.progress = shown_on(bar, *engine_, 0), .segment = flags_.segment};
    if (auto done = dialog_->begin(text.text, append); !done) return done;
    report_.prefill_seconds = seconds_since(begin);
    report_.prompt_tokens = dialog_->sequence().n_tokens();
    return find_sources(text);
}

/// Reads the first question, with the documents before it if they have not been read.
Result<void> Asking::ask_first(const std::vector<std::string>& questions) {
    if (!dialog_) return read_documents_with(questions);
    const auto begin = Clock::now();
    const int64_t n_before = dialog_->sequence().n_tokens();
    if (auto done = read("", questions.front()); !done) return done;
    report_.prefill_seconds += seconds_since(begin);
    report_.prompt_tokens += dialog_->sequence().n_tokens() - n_before;
    return {};
}

/// Starts a dialog about documents.
Result<void> Asking::start(const DocumentText& text, const std::vector<std::string>& questions) {
    AskPlan plan{.sequence = flags_.conversation.sequence,
                 .window_given = flags_.window_given,
                 .answer_tokens = flags_.answer.n_predict,
                 .open_end = flags_.interactive};
    plan.sequence.max_tokens = flags_.n_ctx;
    plan.sequence.keep_queries = flags_.n_sources > 0;
    if (questions.empty()) {
        auto chosen = agnostic_options(*engine_, plan.sequence, text.text, false);
        if (!chosen) return std::unexpected(chosen.error());
        plan.sequence = std::move(*chosen);
    }
    auto options = flags_.conversation;
    if (auto applied = flags_.chat_template.apply_to(options); !applied) return applied;
    auto sequence = sequence_options(*engine_, plan, text, questions);
    if (!sequence) return std::unexpected(sequence.error());
    options.sequence = std::move(*sequence);
    auto dialog = Dialog::start(*engine_, options);
    if (!dialog) return std::unexpected(dialog.error());
    dialog_ = std::make_unique<Dialog>(std::move(*dialog));
    return {};
}

Result<void> Asking::read_documents_with(const std::vector<std::string>& questions) {
    const DocumentText text(documents_, questions);
    if (auto started = start(text, questions); !started) return started;
    const auto begin = Clock::now();
    if (auto done = read(text.text, questions.front()); !done) return done;
    report_.prefill_seconds = seconds_since(begin);
    report_.prompt_tokens = static_cast<int64_t>(dialog_->last_prompt().size());
    return find_sources(text);
}

/// Notes what is reported about the documents that were read last.
Result<void> Asking::find_sources(const DocumentText& text) {
    report_.policy = policy_name(dialog_->sequence().options());
    for (const auto& document : documents_) report_.documents.push_back(document.name);
    if (flags_.n_sources == 0) return {};
    auto sources =
        SourceFinder::create(*engine_, dialog_->last_prompt(),
                             dialog_->sequence().n_tokens() - std::ssize(dialog_->last_prompt()), text, documents_);
    if (!sources) return std::unexpected(sources.error());
    sources_ = std::make_unique<SourceFinder>(std::move(*sources));
    return {};
}

Result<void> Asking::read(const std::string& before, const std::string& question) {
    ProgressBar bar("reading");
    const auto progress = shown_on(bar, *engine_, dialog_->sequence().n_tokens());
    return dialog_->ask(before, question, {.progress = progress, .segment = flags_.segment});
}

/// `number`: number of the question, from 1, to print the question before its answer; 0: do not print it.
Result<void> Asking::answer(const std::string& question, size_t number) {
    Answer answer{.question = question};
    if (number > 0 && !flags_.json) {
        const auto heading = fmt::format("{}{}. {}\n", number > 1 ? "\n" : "", number, question);
        if (auto written = write_output(heading); !written) return written;
    }
    if (auto streamed = stream(answer); !streamed) return streamed;
    if (auto shown = sources_ ? show_sources(answer) : Result<void>(); !shown) return shown;
    report_.answers.push_back(std::move(answer));
    return {};
}

Result<void> Asking::stream(Answer& answer) {
    const auto& sequence = dialog_->sequence();
    if (sources_) sources_->begin_answer();
    // Include the last token of the question, which determines the first token of the answer.
    int64_t n_seen = sequence.n_tokens() - 1;
    std::string drawn;  // with the white space at the beginning
    bool repeats = false;
    auto first = Clock::now();
    for (const auto& piece : dialog_->answer({.max_tokens = n_predict(),
                                              .ignore_eos = flags_.answer.ignore_eos,
                                              .sampling = flags_.answer.sampling,
                                              .cancelled = [&] { return interrupted() || repeats; }})) {
        if (dialog_->n_drawn() == 1) first = Clock::now();
        const auto text = begun(piece, answer.text);
        answer.text += text;
        drawn += piece;
        repeats = repeats || (!flags_.allow_repetition && repeats_itself(drawn));
        if (auto written = flags_.json ? Result<void>() : write_output(text); !written) return written;
        if (sequence.n_tokens() - n_seen < sequence.options().window) continue;
        if (auto observed = observe(n_seen); !observed) return observed;
    }
    answer.seconds = seconds_since(first);
    answer.n_tokens = dialog_->n_drawn();
    answer.finish_reason = dialog_->finish_reason();
    answer.repeats_itself = repeats && answer.finish_reason == FinishReason::cancelled && !interrupted();
    if (answer.finish_reason == FinishReason::failed) return std::unexpected(sequence.error());
    if (auto observed = observe(n_seen); !observed) return observed;
    if (auto written = flags_.json ? Result<void>() : write_output("\n"); !written) return written;
    if (answer.repeats_itself)
        complain(fmt::format(
            "the answer to \"{}\" repeats itself and was stopped: ask in other words, use a larger model, or "
            "let it go on with --allow-repetition",
            printable(beginning_of(answer.question))));
    return {};
}

/// The value of -n, limited to the room in the context.
int64_t Asking::n_predict() const {
    const auto& sequence = dialog_->sequence();
    const int64_t wanted = flags_.answer.n_predict;
    if (sequence.options().max_tokens == 0) return wanted;
    const int64_t room = std::max<int64_t>(sequence.options().max_tokens - sequence.n_tokens(), 0);
    return wanted < 0 ? room : std::min(wanted, room);
}

/// Adds the attention of all tokens after the first `n_seen` to the sources, and updates `n_seen`.
Result<void> Asking::observe(int64_t& n_seen) {
    const int64_t n = dialog_->sequence().n_tokens() - n_seen;
    if (!sources_ || n == 0) return {};
    const auto attention = dialog_->sequence().attention_by_position(n);
    if (!attention) return std::unexpected(attention.error());
    sources_->add(*attention, n);
    n_seen += n;
    return {};
}

Result<void> Asking::show_sources(Answer& answer) {
    answer.sources = sources_->best(static_cast<size_t>(flags_.n_sources));
    return flags_.json ? Result<void>() : write_output(shown(answer.sources, columns_of_output()));
}

Result<void> Asking::follow_up() {
    while (const auto question = next_question()) {
        if (auto asked = read("", *question); !asked) return asked;
        if (auto answered = answer(*question, 0); !answered) return answered;
    }
    return {};
}

/// Reads the next message that is not empty. Returns nothing at the end of the input or after /quit.
std::optional<std::string> Asking::next_question() {
    let_interrupts_end_us();
    auto line = editor_.read_message("> ");
    while (line && line->find_first_not_of(" \t") == std::string::npos) line = editor_.read_message("> ");
    catch_interrupts();
    if (line && (*line == "/quit" || *line == "/exit")) return std::nullopt;
    return line;
}

}  // namespace cake::cli
