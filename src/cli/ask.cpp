#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <memory>

#include "cli/asking.hpp"
#include "cli/commands.hpp"

namespace cake::cli {

namespace {

constexpr int64_t kSources = 3;  // default of --sources
constexpr int64_t kMaxSources = 20;

/// Moves "-" from the questions to the documents.
void take_standard_input(AskFlags& flags) {
    const auto n = std::erase(flags.questions, "-");
    flags.files.insert(flags.files.end(), n, "-");
}

/// Takes a file of cake read out of the documents, or from before the questions.
void take_document_file(AskFlags& flags) {
    if (!flags.questions.empty() && is_session_file(flags.questions.front())) {
        flags.files.push_back(std::move(flags.questions.front()));
        flags.questions.erase(flags.questions.begin());
    }
    const auto saved = std::ranges::find_if(flags.files, is_session_file);
    if (saved == flags.files.end()) return;
    if (flags.files.size() > 1)
        throw CLI::ValidationError(
            fmt::format("{}: was saved by cake read, and no other document can be added to it: pass it alone, or read "
                        "all documents together",
                        *saved));
    flags.document_file = std::move(*saved);
    flags.files.clear();
}

/// Checks flags that a file of cake read determines.
void check_document_file(const AskFlags& flags, const CLI::App& ask) {
    if (flags.document_file.empty()) return;
    refuse_kept_flags(ask, "read the documents again", "--kv-budget");
    if (ask.count("--system-prompt") > 0)
        throw CLI::ValidationError(
            "--system-prompt comes before the documents, which have been read already: leave it out, or read the "
            "documents again");
}

/// Reads the value of --sources. If it is not a number, it is a question and is put back at its place among them.
void take_sources(AskFlags& flags, const std::string& value, const CLI::App& ask) {
    flags.n_sources = kSources;
    if (value.empty()) return;
    const char* end = value.data() + value.size();
    const auto [rest, error] = std::from_chars(value.data(), end, flags.n_sources);
    if (error == std::errc{} && rest == end) {
        if (flags.n_sources < 1 || flags.n_sources > kMaxSources)
            throw CLI::ValidationError(fmt::format("--sources shows 1 to {} passages, not {}", kMaxSources, value));
        return;
    }
    flags.n_sources = kSources;
    size_t n_before = 0;
    for (const auto* option : ask.parse_order()) {
        if (option == ask.get_option("--sources")) break;
        n_before += option == ask.get_option("question") ? 1 : 0;
    }
    flags.questions.insert(flags.questions.begin() + static_cast<ptrdiff_t>(std::min(n_before, flags.questions.size())),
                           value);
}

bool is_one_word(const std::string& text) {
    return text.find_first_of(" \t\n") == std::string::npos;
}

void check_questions(const AskFlags& flags) {
    const auto& questions = flags.questions;
    if (questions.empty() && !flags.interactive)
        throw CLI::RequiredError("a question in quotes, such as \"Who signed the contract?\", or --interactive");
    if (std::ranges::any_of(questions,
                            [](const auto& q) { return q.find_first_not_of(" \t\r\n") == std::string::npos; }))
        throw CLI::ValidationError("a question is empty");
    // Probably one question without quotes.
    if (questions.size() > 1 && std::ranges::all_of(questions, is_one_word) && !questions.front().ends_with('?')) {
        std::string question;
        for (const auto& word : questions) question += (question.empty() ? "" : " ") + word;
        throw CLI::ValidationError(fmt::format("a question must be in quotes: \"{}\"", question));
    }
}

/// Checks combinations of flags.
void check_flags(const AskFlags& flags) {
    if (flags.files.empty() && flags.document_file.empty())
        throw CLI::RequiredError("a document (-f FILE, - for standard input, or a file of cake read)");
    const auto n_standard_input = std::ranges::count(flags.files, "-");
    if (n_standard_input > 1) throw CLI::ValidationError("standard input can be read only once: pass - once");
    if (n_standard_input > 0 && flags.interactive)
        throw CLI::ValidationError(
            "--interactive reads questions from standard input, which is the document here: pass a file with -f");
    if (flags.json && flags.interactive)
        throw CLI::ValidationError(
            "--json prints one object at the end, which --interactive does not have: leave one out");
    check_questions(flags);
}

}  // namespace

void add_ask(CLI::App& app, std::function<int()>& action) {
    auto flags = std::make_shared<AskFlags>();
    auto sources = std::make_shared<std::string>();
    auto* ask = app.add_subcommand("ask", "answer questions about documents");
    ask->add_option("question", flags->questions,
                    "the questions, each in quotes; before them, a file that cake read has saved, or - for a document "
                    "from standard input")
        ->type_name("TEXT")
        ->take_all();
    flags->model.add_to(*ask);
    ask->add_option("-f,--file", flags->files, "a document; - is standard input; may be repeated")
        ->type_name("FILE")
        ->allow_extra_args(false)
        ->take_all();
    ask->add_option("--sources", *sources, "show the N passages that each answer attended to most (default: 3)")
        ->type_name("[N]")
        ->expected(0, 1);
    ask->add_flag("-i,--interactive", flags->interactive, "ask further questions at a prompt, in the same session");
    ask->add_option("--system-prompt", flags->conversation.system, "system message before the documents")
        ->type_name("TEXT");
    flags->chat_template.add_to(*ask);
    ask->add_flag("--allow-repetition", flags->allow_repetition, "do not stop an answer that repeats itself");
    ask->add_flag("--json", flags->json, "print one JSON object with answers, sources, timings, memory and layers");
    add_segment(*ask, flags->segment);
    add_context(*ask, flags->n_ctx);
    flags->kv.add_to(*ask);
    flags->answer.add_to(*ask);
    ask->callback([flags, sources, ask, &action] {
        if (ask->count("--sources") > 0) take_sources(*flags, *sources, *ask);
        take_standard_input(*flags);
        take_document_file(*flags);
        check_flags(*flags);
        check_document_file(*flags, *ask);
        flags->policy_given = names_policy(*ask);
        flags->window_given = ask->count("--window") > 0;
        flags->conversation.sequence = flags->kv.sequence_options();
        if (flags->document_file.empty()) warn_of_unread_flags(*ask, {&flags->conversation.sequence, 1});
        action = [flags] { return Asking(*flags).execute(); };
    });
}

}  // namespace cake::cli
