#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <memory>

#include "cake/policy.hpp"
#include "cli/ask_options.hpp"
#include "cli/commands.hpp"
#include "cli/dialog.hpp"
#include "cli/document_file.hpp"
#include "cli/flags.hpp"
#include "cli/interrupt.hpp"
#include "cli/output.hpp"
#include "cli/parse.hpp"
#include "cli/progress.hpp"
#include "cli/reading.hpp"
#include "cli/report.hpp"
#include "text/answer_text.hpp"

namespace cake::cli {

namespace {

constexpr const char* kExtension = ".kv";

struct ReadFlags {
    ModelFlags model;
    KvFlags kv;
    TemplateFlags chat_template;
    ConversationOptions conversation;
    std::vector<std::string> files;
    std::string out;
    int64_t segment = 0;
    bool out_given = false;
    bool policy_given = false;
};

/// One run of `cake read`: prefills documents before it is known what will be asked, and saves the compressed cache.
class Reading {
  public:
    explicit Reading(const ReadFlags& flags) : flags_(flags) {}

    int execute() {
        catch_interrupts();
        const auto done = run();
        if (done) return kDone;
        if (interrupted() && done.error().code == Error::Code::cancelled) {
            complain("stopped before the documents were read: no file was written");
            return kInterrupted;
        }
        complain(done.error().message);
        return kFailed;
    }

  private:
    Result<void> run() const {
        auto documents = read_documents(flags_.files);
        if (!documents) return std::unexpected(documents.error());
        // The file holds the text as JSON.
        for (auto& document : *documents) {
            auto text = to_utf8(document.text);
            if (text != document.text)
                complain(
                    fmt::format("warning: {}: contains bytes that are not UTF-8; they are replaced", document.name));
            document.text = std::move(text);
        }
        const DocumentText text(*documents, {});
        if (auto possible = check_out(text); !possible) return possible;
        const auto engine = flags_.model.load();
        if (!engine) return std::unexpected(engine.error());
        auto options = flags_.conversation;
        if (auto applied = flags_.chat_template.apply_to(options); !applied) return applied;
        auto sequence = options_for(*engine, text);
        if (!sequence) return std::unexpected(sequence.error());
        options.sequence = std::move(*sequence);
        const auto note = write_document_note(*documents, text);
        auto dialog = Dialog::start(*engine, options);
        if (!dialog) return std::unexpected(dialog.error());
        if (auto fits = dialog->check_size(text.text, note); !fits) return fits;

        const auto begin = std::chrono::steady_clock::now();
        if (auto read = begin_dialog(*engine, *dialog, text.text); !read) return read;
        const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
        if (auto saved = dialog->save(flags_.out, note); !saved) return saved;
        return write_output(summary(*dialog, seconds.count()));
    }

    /// Fails before the documents are read if their file could not be written afterwards.
    Result<void> check_out(const DocumentText& text) const {
        namespace fs = std::filesystem;
        constexpr size_t kMaxBytes = size_t{3} << 20U;
        if (text.text.size() > kMaxBytes)
            return fail(fmt::format("the documents have {} together, and one file holds {}: split them",
                                    format_bytes(text.text.size()), format_bytes(kMaxBytes)));
        std::error_code unknown;
        for (const auto& file : flags_.files)
            if (file != "-" && fs::equivalent(file, flags_.out, unknown))
                return fail(flags_.out + ": is a document and the file to write: name another one with -o");
        if (flags_.out == "-") return fail("standard output cannot hold a saved text: use the path of a file with -o");
        const auto at_out = fs::status(flags_.out, unknown);
        if (fs::exists(at_out) && !fs::is_regular_file(at_out))
            return fail(flags_.out + ": is not a plain file: use the path of the file to write with -o");
        auto folder = fs::path(flags_.out).parent_path();
        if (folder.empty()) folder = ".";
        if (!fs::is_directory(folder, unknown))
            return fail(fmt::format("{}: there is no folder {}", flags_.out, folder.string()));
        if (::access(folder.c_str(), W_OK) != 0)
            return fail(fmt::format("{}: the folder {} cannot be written to", flags_.out, folder.string()));
        if (!flags_.out_given && fs::exists(flags_.out, unknown))
            return fail(flags_.out + ": exists already: pass -o with this name to replace it, or with another");
        return {};
    }

    Result<SequenceOptions> options_for(const Engine& engine, const DocumentText& text) const {
        AskPlan plan{
            .sequence = flags_.conversation.sequence, .window_given = true, .answer_tokens = 0, .open_end = false};
        plan.sequence.keep_queries = true;  // for the sources of answers
        auto chosen = agnostic_options(engine, plan.sequence, text.text, flags_.policy_given);
        if (!chosen) return chosen;
        plan.sequence = std::move(*chosen);
        return sequence_options(engine, plan, text, {});
    }

    Result<void> begin_dialog(const Engine& engine, Dialog& dialog, const std::string& text) const {
        ProgressBar bar("reading");
        return dialog.begin(text, {.progress = shown_on(bar, engine, 0), .segment = flags_.segment});
    }

    std::string summary(const Dialog& dialog, double seconds) const {
        const auto& sequence = dialog.sequence();
        const auto memory = sequence.memory();
        std::error_code unknown;
        const auto n_bytes = std::filesystem::file_size(flags_.out, unknown);
        const auto full = static_cast<double>(memory.kv_bytes_full_cache);
        return fmt::format("{}: {} for {} tokens, {:.1f} % of their full cache of {}; read in {} with the policy {}\n",
                           printable(flags_.out), format_bytes(unknown ? 0 : n_bytes),
                           format_count(static_cast<uint64_t>(sequence.n_tokens())),
                           full > 0 ? 100 * static_cast<double>(n_bytes) / full : 0,
                           format_bytes(memory.kv_bytes_full_cache), format_duration(seconds),
                           policy_name(sequence.options()));
    }

    const ReadFlags& flags_;
};

/// The file that is written if none is named: the name of the first document, in the current folder.
std::string usual_out(const std::vector<std::string>& files) {
    return files.front() == "-" ? "" : std::filesystem::path(files.front()).filename().replace_extension(kExtension);
}

}  // namespace

void add_read(CLI::App& app, std::function<int()>& action) {
    auto flags = std::make_shared<ReadFlags>();
    flags->kv.options.policy = kAgnosticPolicy;
    auto* read = app.add_subcommand("read", "read documents once and save what cake ask needs to answer about them");
    read->add_option("file,-f,--file", flags->files, "the documents; - is standard input")
        ->type_name("FILE")
        ->take_all();
    flags->model.add_to(*read);
    read->add_option("-o,--output", flags->out,
                     "the file to write (default: the name of the first document with .kv, in the current folder)")
        ->type_name("FILE");
    read->add_option("--system-prompt", flags->conversation.system, "system message before the documents")
        ->type_name("TEXT");
    flags->chat_template.add_to(*read);
    add_segment(*read, flags->segment);
    flags->kv.add_to(*read);
    read->callback([flags, read, &action] {
        if (flags->files.empty()) throw CLI::RequiredError("a document (-f FILE, or - for standard input)");
        if (std::ranges::count(flags->files, "-") > 1)
            throw CLI::ValidationError("standard input can be read only once: pass - once");
        flags->out_given = !flags->out.empty();
        flags->policy_given = names_policy(*read);
        if (!flags->out_given) flags->out = usual_out(flags->files);
        if (flags->out.empty()) throw CLI::RequiredError("the name of the file to write (-o FILE)");
        flags->conversation.sequence = flags->kv.sequence_options();
        warn_of_unread_flags(*read, {&flags->conversation.sequence, 1});
        action = [flags] { return Reading(*flags).execute(); };
    });
}

}  // namespace cake::cli
