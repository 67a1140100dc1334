#include <fmt/format.h>
#include <unistd.h>

#include <memory>
#include <optional>

#include "cake/conversation.hpp"
#include "cli/ask_options.hpp"
#include "cli/commands.hpp"
#include "cli/flags.hpp"
#include "cli/input.hpp"
#include "cli/interrupt.hpp"
#include "cli/line_editor.hpp"
#include "cli/output.hpp"
#include "cli/parse.hpp"
#include "cli/progress.hpp"
#include "cli/reading.hpp"

namespace cake::cli {

namespace {

struct ChatFlags {
    ModelFlags model;
    KvFlags kv;
    AnswerFlags answer;
    TemplateFlags chat_template;
    ConversationOptions conversation;
    std::string file;
    std::string load_session;
    int64_t segment = 0;
    int64_t n_ctx = 0;
    bool policy_given = false;
};

constexpr const char* kHelp =
    "  /read FILE   put a file before your next message\n"
    "  /save FILE   save the conversation with its compressed cache\n"
    "  /load FILE   continue a saved conversation\n"
    "  /stats       show what each layer holds\n"
    "  /clear       forget everything\n"
    "  /quit        quit (also Ctrl-D); Ctrl-C stops an answer\n"
    "  A line that ends in \\ continues on the next line.\n";

class Chat {
  public:
    explicit Chat(const ChatFlags& flags) : flags_(flags) {}

    int execute() {
        auto done = run();
        if (done) return kDone;
        complain(done.error().message);
        return kFailed;
    }

  private:
    Result<void> run() {
        auto engine = flags_.model.load();
        if (!engine) return std::unexpected(engine.error());
        engine_ = std::make_unique<Engine>(std::move(*engine));
        options_ = flags_.conversation;
        if (auto applied = flags_.chat_template.apply_to(options_); !applied) return applied;
        options_.sequence.max_tokens = flags_.n_ctx;
        if (flags_.n_ctx == 0 && !evicts(options_.sequence)) options_.sequence.max_tokens = engine_->info().n_ctx_train;
        const bool reads_first = !flags_.file.empty() && flags_.load_session.empty() && !flags_.policy_given;
        const auto first = reads_first ? text_of(flags_.file) : Result<std::string>();
        if (!first) return std::unexpected(first.error());
        if (reads_first) {
            auto chosen = agnostic_options(*engine_, options_.sequence, *first, false);
            if (!chosen) return std::unexpected(chosen.error());
            options_.sequence = std::move(*chosen);
        }
        auto begun = flags_.load_session.empty() ? Conversation::start(*engine_, options_)
                                                 : Conversation::load(*engine_, flags_.load_session, options_);
        if (!begun) return std::unexpected(begun.error());
        conversation_ = std::make_unique<Conversation>(std::move(*begun));
        if (!flags_.file.empty()) {
            if (auto done = reads_first ? read_first(*first) : read(flags_.file); !done) return done;
        }
        if (editor_.is_terminal()) {
            std::fputs(
                fmt::format("{}: type a message, or /help for a list of commands\n", printable(engine_->info().name))
                    .c_str(),
                stderr);
        }
        while (const auto line = next_line()) {
            if (*line == "/quit" || *line == "/exit") break;
            if (line->empty()) continue;
            // An error in a turn does not end the conversation, unless the output cannot be written.
            if (auto done = take(*line); !done) {
                if (!output_) return done;
                complain(done.error().message);
            }
        }
        return {};
    }

    std::optional<std::string> next_line() {
        let_interrupts_end_us();
        auto line = editor_.read_message("> ");
        catch_interrupts();
        return line;
    }

    Result<void> take(const std::string& line) {
        if (!line.starts_with('/')) return turn(line);
        const auto space = line.find(' ');
        const auto command = line.substr(0, space);
        const auto begin = line.find_first_not_of(' ', std::min(space, line.size()));
        const auto name =
            begin == std::string::npos ? std::string() : line.substr(begin, line.find_last_not_of(' ') + 1 - begin);
        if (command == "/help") return write(kHelp);
        if (command == "/stats") return write(stats());
        if (command == "/clear") return clear();
        const bool is_known = command == "/read" || command == "/save" || command == "/load";
        if (!is_known) return fail(fmt::format("there is no {}; /help lists the commands", command));
        if (name.empty()) return fail(fmt::format("{} needs a file name", command));
        if (command == "/read") return read(name);
        return command == "/save" ? save(name) : load(name);
    }

    Result<void> turn(const std::string& message) {
        const int64_t n_before = conversation_->sequence().n_tokens();
        auto read = ask(document_.empty() ? message : document_ + "\n\n" + message);
        if (!read) {
            const bool had_document = !document_.empty();
            document_.clear();  // or else it would make every further message fail
            if (!interrupted())
                return had_document ? fail(read.error().code, read.error().message + "; the file was not added") : read;
            return fail(
                "stopped while reading, which leaves the conversation incomplete: use /clear or /load to continue");
        }
        document_.clear();
        if (n_before <= engine_->info().n_ctx_train &&
            conversation_->sequence().n_tokens() > engine_->info().n_ctx_train)
            complain("warning: the conversation is now longer than the texts that the model was trained on");
        for (const auto& piece : conversation_->answer({.max_tokens = flags_.answer.n_predict,
                                                        .ignore_eos = flags_.answer.ignore_eos,
                                                        .sampling = flags_.answer.sampling,
                                                        .cancelled = interrupted})) {
            if (auto written = write(piece); !written) return written;
        }
        if (auto written = write("\n"); !written) return written;
        const auto& sequence = conversation_->sequence();
        if (sequence.finish_reason() == FinishReason::failed) return std::unexpected(sequence.error());
        return {};
    }

    Result<void> ask(const std::string& text) {
        ProgressBar bar("reading");
        return conversation_->ask(text, {.progress = shown_on(bar), .segment = flags_.segment});
    }

    static Result<std::string> text_of(const std::string& name) {
        auto text = read_file(name);
        if (!text) return text;
        if (text->empty()) return fail(name + ": is empty");
        if (text->contains('\0')) return fail(name + ": contains a zero byte: is it a text file?");
        return text;
    }

    /// Prefills a document before the first message is known.
    Result<void> read_first(const std::string& text) {
        catch_interrupts();
        ProgressBar bar("reading for any question");
        auto done =
            conversation_->begin(text + "\n\n", {.progress = shown_on(bar, *engine_, 0), .segment = flags_.segment});
        if (!done && interrupted()) return fail("stopped before the document was read");
        return done;
    }

    Result<void> read(const std::string& name) {
        const auto text = text_of(name);
        if (!text) return std::unexpected(text.error());
        document_ += (document_.empty() ? "" : "\n\n") + *text;
        return tell(fmt::format("{} bytes will be read before your next message", format_count(text->size())));
    }

    Result<void> save(const std::string& name) {
        auto saved = conversation_->save(name);
        return saved ? tell("saved") : saved;
    }

    Result<void> load(const std::string& name) {
        auto loaded = Conversation::load(*engine_, name, options_);
        if (!loaded) return std::unexpected(loaded.error());
        conversation_.reset();
        conversation_ = std::make_unique<Conversation>(std::move(*loaded));
        return tell(fmt::format("{} messages, {} tokens", conversation_->messages().size(),
                                format_count(static_cast<uint64_t>(conversation_->sequence().n_tokens()))));
    }

    Result<void> clear() {
        conversation_.reset();  // free its memory before the new one is allocated
        document_.clear();
        auto begun = Conversation::start(*engine_, options_);
        if (!begun) return std::unexpected(begun.error());
        conversation_ = std::make_unique<Conversation>(std::move(*begun));
        return tell("forgotten");
    }

    std::string stats() const {
        const auto& sequence = conversation_->sequence();
        const auto memory = sequence.memory();
        std::string text =
            fmt::format("  {} messages, {} tokens, policy {}\n", conversation_->messages().size(),
                        format_count(static_cast<uint64_t>(sequence.n_tokens())), sequence.options().policy);
        text += fmt::format("  K/V memory: {} held of {} allowed; a full cache would hold {}\n",
                            format_bytes(memory.kv_bytes_now), format_bytes(memory.kv_bytes_budget),
                            format_bytes(memory.kv_bytes_full_cache));
        const auto layers = sequence.layers();
        for (size_t i = 0; i < layers.size(); i++) {
            const auto& layer = layers[i];
            std::string held = format_count(static_cast<uint64_t>(layer.kept)) + " tokens";
            if (layer.recurrent) held = "a state of fixed size";
            if (layer.kv_layer) held = fmt::format("reads layer {}", *layer.kv_layer);
            text += fmt::format("  layer {:2}: {}\n", i, held);
        }
        return text;
    }

    /// Prints a message if the user is at a terminal.
    Result<void> tell(const std::string& text) {
        if (editor_.is_terminal()) std::fputs((text + "\n").c_str(), stderr);
        return {};
    }

    Result<void> write(std::string_view text) {
        auto written = write_output(text);
        output_ = written.has_value();
        return written;
    }

    const ChatFlags& flags_;
    LineEditor editor_;
    ConversationOptions options_;
    std::unique_ptr<Engine> engine_;
    std::unique_ptr<Conversation> conversation_;
    std::string document_;  // text to put before the next message
    bool output_ = true;    // false after output could not be written
};

}  // namespace

void add_chat(CLI::App& app, std::function<int()>& action) {
    auto flags = std::make_shared<ChatFlags>();
    auto* chat = app.add_subcommand("chat", "chat with a model, many turns in one budget");
    flags->model.add_to(*chat);
    chat->add_option("-f,--file", flags->file, "a text to read before your first message")->type_name("FILE");
    chat->add_option("--system-prompt", flags->conversation.system, "system message at the start of the conversation")
        ->type_name("TEXT");
    flags->chat_template.add_to(*chat);
    chat->add_option("--load-session", flags->load_session,
                     "continue a session saved by /save or cake run --save-session")
        ->type_name("FILE");
    add_segment(*chat, flags->segment);
    add_context(*chat, flags->n_ctx);
    flags->kv.add_to(*chat);
    flags->answer.add_to(*chat);
    chat->callback([flags, chat, &action] {
        if (!flags->load_session.empty()) {
            refuse_kept_flags(*chat, "start a new conversation");
            if (!flags->conversation.system.empty())
                throw CLI::ValidationError(
                    "--system-prompt begins a conversation, and a saved session has begun already: leave it out, or "
                    "start a new conversation");
        }
        flags->policy_given = names_policy(*chat);
        flags->conversation.sequence = flags->kv.sequence_options();
        warn_of_unread_flags(*chat, {&flags->conversation.sequence, 1});
        action = [flags] { return Chat(*flags).execute(); };
    });
}

}  // namespace cake::cli
