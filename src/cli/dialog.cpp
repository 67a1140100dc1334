#include "cli/dialog.hpp"

#include <fmt/format.h>
#include <algorithm>
#include <nlohmann/json.hpp>

#include <optional>
#include <string_view>
#include <utility>

#include "cli/parse.hpp"
#include "text/bounded_json.hpp"
#include "text/json_text.hpp"

namespace cake::cli {

namespace {

constexpr std::string_view kQuestion = "Question:";
/// Text with which a model begins a question of its own.
constexpr std::string_view kStop = "\nQuestion:";

/// Number of bytes at the end of `text` that may be the beginning of kStop.
size_t begun(std::string_view text) {
    size_t n = std::min(text.size(), kStop.size() - 1);
    while (n > 0 && !text.ends_with(kStop.substr(0, n))) n--;
    return n;
}

std::string with_question(const std::string& before, const std::string& question) {
    return fmt::format("{}{} {}", before, kQuestion, question);
}

bool has_template(const Engine& engine, const ConversationOptions& options) {
    return engine.has_chat_template() || !options.chat_template.empty() || !options.chat_template_source.empty();
}

}  // namespace

Result<Dialog> Dialog::start(const Engine& engine, const ConversationOptions& options) {
    if (has_template(engine, options)) {
        auto conversation = Conversation::start(engine, options);
        if (!conversation) return std::unexpected(conversation.error());
        return Dialog(engine, std::move(*conversation));
    }
    auto sequence = engine.sequence(options.sequence);
    if (!sequence) return std::unexpected(sequence.error());
    return Dialog(engine, std::move(*sequence));
}

Result<Dialog> Dialog::load(const Engine& engine, const std::string& path, const ConversationOptions& options,
                            int64_t n_more) {
    const auto no_document = [&](const std::string& note, const char* other, std::string_view mark) {
        if (note.contains(mark)) return fail(path + other);
        return fail(
            fmt::format("{}: is a saved session, but not a text that was read with cake read; cake run and "
                        "cake chat continue it with --load-session",
                        path));
    };
    if (has_template(engine, options)) {
        auto conversation = Conversation::load(engine, path, options, n_more);
        if (!conversation) return std::unexpected(conversation.error());
        if (!conversation->is_begun())
            return no_document(conversation->sequence().note(),
                               ": was read without a chat template: leave out --chat-template, or read it again",
                               "plain_text");
        return Dialog(engine, std::move(*conversation));
    }
    auto sequence = Sequence::load(engine, path, n_more);
    if (!sequence) return std::unexpected(sequence.error());
    auto plain = read_plain(sequence->note());
    if (!plain)
        return no_document(sequence->note(),
                           ": was read with a chat template, which this model lacks: pass --chat-template",
                           "begun_tokens");
    Dialog dialog(engine, std::move(*sequence));
    auto tokens = dialog.plain_tokens(plain->text);
    if (!tokens) return std::unexpected(tokens.error());
    if (std::ssize(*tokens) != dialog.sequence().n_tokens())
        return fail(Error::Code::corrupt, path + ": its text is not what was read: read the documents again");
    dialog.plain_prompt_ = std::move(*tokens);
    dialog.plain_ = std::move(*plain);
    return dialog;
}

const Sequence& Dialog::sequence() const {
    const auto* conversation = std::get_if<Conversation>(&session_);
    return conversation != nullptr ? conversation->sequence() : std::get<Sequence>(session_);
}

Result<void> Dialog::begin(const std::string& text, const AppendOptions& options) {
    if (auto* conversation = std::get_if<Conversation>(&session_)) return conversation->begin(text, options);
    auto tokens = plain_tokens(text);
    if (!tokens) return std::unexpected(tokens.error());
    plain_prompt_ = std::move(*tokens);
    plain_ = {.text = text, .note = {}, .is_begun = true};
    return std::get<Sequence>(session_).append(plain_prompt_, options);
}

Result<void> Dialog::check_size(const std::string& text, const std::string& note) const {
    constexpr size_t kMax = (size_t{8} << 20U) - (size_t{64} << 10U);  // limit of a note, less room for the template
    size_t n_bytes = json_text(nlohmann::json(text)).size() + json_text(nlohmann::json(note)).size();
    if (std::holds_alternative<Conversation>(session_)) {
        const auto tokens = engine_.tokenize(text, false);
        if (!tokens) return std::unexpected(tokens.error());
        for (const Token token : *tokens) n_bytes += fmt::formatted_size("{},", token);
    }
    if (n_bytes <= kMax) return {};
    return fail(fmt::format("the documents and their tokens take {}, and one file holds {}: split them",
                            format_bytes(n_bytes), format_bytes(kMax)));
}

Result<void> Dialog::save(const std::string& path, const std::string& note) {
    if (auto* conversation = std::get_if<Conversation>(&session_)) {
        conversation->set_note(note);
        return conversation->save(path);
    }
    plain_.note = note;
    auto& sequence = std::get<Sequence>(session_);
    sequence.set_note(write_plain(plain_));
    return sequence.save(path, {.more_follows = plain_.is_begun});
}

std::string Dialog::write_plain(const PlainText& plain) {
    return json_text(nlohmann::json{{"plain_text", plain.text}, {"note", plain.note}});
}

/// Returns nothing if write_plain() has not written this.
std::optional<Dialog::PlainText> Dialog::read_plain(const std::string& saved) {
    const auto json = parse_bounded<nlohmann::json>(saved, 1);
    const auto is_text = [&](const char* key) { return json->contains(key) && (*json)[key].is_string(); };
    if (!json || !json->is_object() || !is_text("plain_text") || !is_text("note")) return std::nullopt;
    return PlainText{.text = (*json)["plain_text"], .note = (*json)["note"], .is_begun = true};
}

const std::string& Dialog::begun_text() const {
    const auto* conversation = std::get_if<Conversation>(&session_);
    return conversation != nullptr ? conversation->messages().back().content : plain_.text;
}

const std::string& Dialog::note() const {
    const auto* conversation = std::get_if<Conversation>(&session_);
    return conversation != nullptr ? conversation->note() : plain_.note;
}

Result<void> Dialog::ask(const std::string& before, const std::string& question, const AppendOptions& options) {
    if (auto* conversation = std::get_if<Conversation>(&session_)) {
        const bool follows_text = conversation->is_begun() || !before.empty();
        return conversation->ask(follows_text ? with_question(before, question) : question, options);
    }
    auto tokens = plain_tokens(plain_question(before, question));
    if (!tokens) return std::unexpected(tokens.error());
    plain_prompt_ = std::move(*tokens);
    plain_.is_begun = false;
    return std::get<Sequence>(session_).append(plain_prompt_, options);
}

Stream<std::string> Dialog::answer(GenerateOptions options) {
    n_drawn_ = 0;
    stopped_ = false;
    return std::holds_alternative<Conversation>(session_) ? answer_in_template(std::move(options))
                                                          : plain_answer(std::move(options));
}

std::span<const Token> Dialog::last_prompt() const {
    const auto* conversation = std::get_if<Conversation>(&session_);
    return conversation != nullptr ? conversation->last_prompt() : plain_prompt_;
}

FinishReason Dialog::finish_reason() const {
    return stopped_ ? FinishReason::end_of_generation : sequence().finish_reason();
}

/// A question in plain text, up to the place of its answer.
std::string Dialog::plain_question(const std::string& before, const std::string& question) const {
    if (stopped_) return before + " " + question + "\nAnswer:";
    const bool follows_answer = sequence().n_tokens() > 0 && !plain_.is_begun;
    return (follows_answer ? "\n\n" : "") + with_question(before, question) + "\nAnswer:";
}

/// Names of special tokens in documents and questions are treated as text.
Result<std::vector<Token>> Dialog::plain_tokens(const std::string& text) const {
    auto tokens = engine_.tokenize(text, false);
    const auto first = engine_.first_token();
    const bool begins = sequence().n_tokens() == 0 || plain_prompt_.empty();
    if (tokens && begins && first) tokens->insert(tokens->begin(), *first);
    return tokens;
}

Stream<std::string> Dialog::answer_in_template(GenerateOptions options) {
    auto pieces = std::get<Conversation>(session_).answer(std::move(options));
    return Stream<std::string>([this, pieces = std::move(pieces)] mutable {
        auto piece = pieces.next();
        if (piece) n_drawn_++;
        return piece;
    });
}

Stream<std::string> Dialog::plain_answer(GenerateOptions options) {
    auto tokens = std::get<Sequence>(session_).generate(std::move(options));
    const auto next = [this, tokens = std::move(tokens), held = std::string(),
                       ended = false] mutable -> std::optional<std::string> {
        if (ended) return std::nullopt;
        const auto token = tokens.next();
        if (token) {
            n_drawn_++;
            held += engine_.piece(*token);
            if (const auto stop = held.find(kStop); stop != std::string::npos) {
                stopped_ = true;
                held.resize(stop);
            }
        }
        ended = !token || stopped_;
        const size_t n = ended ? held.size() : held.size() - begun(held);
        std::string piece = held.substr(0, n);
        held.erase(0, n);
        return piece;
    };
    return Stream<std::string>(next);
}

}  // namespace cake::cli
