#include "cake/conversation.hpp"

#include <algorithm>
#include <memory>
#include <optional>

#include "engine/conversation_note.hpp"
#include "engine/engine_state.hpp"
#include "text/chat_template.hpp"

namespace cake {

namespace {

constexpr const char* kAssistant = "assistant";
constexpr const char* kUser = "user";
constexpr const char* kSpace = " \t\r\n";

/// Length of the prefix of `text` that still belongs to the answer before it: the answer's trailing white space, if the
/// template kept it.
size_t end_of_answer(std::string_view text, std::string_view answer) {
    const auto space = answer.substr(answer.find_last_not_of(kSpace) + 1);
    return static_cast<size_t>(std::ranges::mismatch(text, space).in1 - text.begin());
}

std::string_view trimmed(std::string_view text) {
    const auto begin = text.find_first_not_of(kSpace);
    return begin == std::string_view::npos ? std::string_view()
                                           : text.substr(begin, text.find_last_not_of(kSpace) + 1 - begin);
}

ChatOptions chat_options(const ConversationOptions& options) {
    return {.template_name = options.chat_template,
            .template_source = options.chat_template_source,
            .template_kwargs = options.chat_template_kwargs};
}

}  // namespace

struct Conversation::Parts {
    Engine engine;
    Sequence sequence;
    ChatOptions chat;
    std::vector<ChatMessage> messages{};
    bool is_begun = false;  // the last message has been read, and the next one continues it
    std::string note{};
    std::vector<Token> last_prompt{};

    const Vocabulary& vocabulary() const { return EngineAccess::state(engine)->vocabulary; }
    /// Where the rendered text of a conversation ends.
    enum class End { behind_messages, where_answer_begins, within_last_message };
    Result<ChatText> render(size_t n_messages, End end) const;
    Result<ChatText> text_since_last_answer(End end) const;
    void end_turn();
    Result<void> read(const ChatText& text, const AppendOptions& options);
};

Conversation::Conversation(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
Conversation::Conversation(Conversation&&) noexcept = default;
Conversation& Conversation::operator=(Conversation&&) noexcept = default;
Conversation::~Conversation() = default;

const std::vector<ChatMessage>& Conversation::messages() const {
    return parts_->messages;
}
std::span<const Token> Conversation::last_prompt() const {
    return parts_->last_prompt;
}
const Sequence& Conversation::sequence() const {
    return parts_->sequence;
}

Result<Conversation> Conversation::start(const Engine& engine, const ConversationOptions& options) {
    auto sequence = engine.sequence(options.sequence);
    if (!sequence) return std::unexpected(sequence.error());
    auto parts = std::make_unique<Parts>(engine, std::move(*sequence), chat_options(options));
    if (!options.system.empty()) parts->messages.push_back({.role = "system", .content = options.system});
    const ChatMessage trial{.role = kUser, .content = "?"};
    if (auto possible = engine.chat_prompt({&trial, 1}, parts->chat); !possible)
        return std::unexpected(possible.error());
    return Conversation(std::move(parts));
}

Result<Conversation> Conversation::load(const Engine& engine, const std::string& path,
                                        const ConversationOptions& options, int64_t n_more) {
    auto sequence = Sequence::load(engine, path, n_more);
    if (!sequence) return std::unexpected(sequence.error());
    auto parts = std::make_unique<Parts>(engine, std::move(*sequence), chat_options(options));
    auto saved = read_conversation_note(parts->sequence.note()).value_or(ConversationNote{});
    parts->messages = std::move(saved.messages);
    parts->note = std::move(saved.note);
    parts->is_begun = saved.is_begun();
    parts->last_prompt = std::move(saved.begun_tokens);
    if (parts->is_begun && saved.chat_template != chat_template_hash(parts->vocabulary(), parts->chat))
        return fail(path + ": was read with another chat template: use that one, or read the text again");
    const auto is_outside = [&](Token token) { return token >= engine.info().n_vocab; };
    if (std::ssize(parts->last_prompt) > parts->sequence.n_tokens() ||
        std::ranges::any_of(parts->last_prompt, is_outside))
        return fail(Error::Code::corrupt, path + ": the session is damaged (its note names other tokens than it has)");
    return Conversation(std::move(parts));
}

Result<void> Conversation::save(const std::string& path) {
    parts_->sequence.set_note(
        write_conversation_note({.messages = parts_->messages,
                                 .note = parts_->note,
                                 .begun_tokens = parts_->is_begun ? parts_->last_prompt : std::vector<Token>(),
                                 .chat_template = chat_template_hash(parts_->vocabulary(), parts_->chat)}));
    return parts_->sequence.save(path, {.more_follows = parts_->is_begun});
}

const std::string& Conversation::note() const {
    return parts_->note;
}
bool Conversation::is_begun() const {
    return parts_->is_begun;
}
void Conversation::set_note(std::string note) {
    parts_->note = std::move(note);
}

Result<ChatText> Conversation::Parts::render(size_t n_messages, End end) const {
    ChatOptions options = chat;
    options.add_generation_prompt = end == End::where_answer_begins;
    options.continue_final_message = end == End::within_last_message;
    return render_chat(vocabulary(), std::span(messages).first(n_messages), options);
}

/// The part of the rendered conversation after the last answer.
Result<ChatText> Conversation::Parts::text_since_last_answer(End end_of_text) const {
    auto whole = render(messages.size(), end_of_text);
    if (!whole) return whole;
    const size_t n_before = messages.size() - 1;
    if (n_before == 0 || messages[n_before - 1].role != kAssistant) return whole;
    const auto asked = render(n_before - 1, End::where_answer_begins);
    if (!asked) return asked;
    // A template may add or drop white space around an answer.
    if (whole->text.starts_with(asked->text)) {
        const std::string& content = messages[n_before - 1].content;
        const auto answer = trimmed(content);
        const auto rest = std::string_view(whole->text).substr(asked->text.size());
        const size_t begin = answer.empty() ? 0 : std::min(rest.find_first_not_of(kSpace), rest.size());
        if (rest.substr(begin).starts_with(answer)) {
            const size_t end = begin + answer.size();
            return whole->from(asked->text.size() + end + end_of_answer(rest.substr(end), content));
        }
    }
    // The template changes the text of answers, so begin at the new message.
    const auto before = render(n_before, End::behind_messages);
    return before && whole->text.starts_with(before->text) ? whole->from(before->text.size()) : whole;
}

/// If the last message has no answer, the cache already ends with the prompt for one: records an empty answer.
void Conversation::Parts::end_turn() {
    if (!messages.empty() && messages.back().role == kUser) messages.push_back({.role = kAssistant, .content = {}});
}

Result<void> Conversation::Parts::read(const ChatText& text, const AppendOptions& options) {
    auto tokens = tokenize_chat(vocabulary(), text, sequence.n_tokens() > 0);
    if (!tokens) return std::unexpected(tokens.error());
    last_prompt = std::move(*tokens);
    return sequence.append(last_prompt, options);
}

Result<void> Conversation::begin(const std::string& text, const AppendOptions& options) {
    auto& parts = *parts_;
    if (parts.is_begun) return fail("a message has been begun already: ask() completes it");
    const auto before = parts.messages;
    parts.end_turn();
    parts.messages.push_back({.role = kUser, .content = text});
    auto done = parts.text_since_last_answer(Parts::End::within_last_message).and_then([&](const ChatText& rendered) {
        return parts.read(rendered, options);
    });
    parts.is_begun = done.has_value();
    if (!done) parts.messages = before;
    return done;
}

Result<void> Conversation::ask(const std::string& message, const AppendOptions& options) {
    auto& parts = *parts_;
    const auto before = parts.messages;
    ChatText begun;
    if (parts.is_begun) {
        auto rendered = parts.text_since_last_answer(Parts::End::within_last_message);
        if (!rendered) return std::unexpected(rendered.error());
        begun = std::move(*rendered);
        parts.messages.back().content += message;
    } else {
        parts.end_turn();
        parts.messages.push_back({.role = kUser, .content = message});
    }
    auto done = parts.text_since_last_answer(Parts::End::where_answer_begins).and_then([&](const ChatText& whole) {
        if (!whole.text.starts_with(begun.text))
            return Result<void>(fail("the chat template changes what was read of this message when the rest follows"));
        return parts.read(whole.from(begun.text.size()), options);
    });
    if (done)
        parts.is_begun = false;
    else
        parts.messages = before;
    return done;
}

Stream<std::string> Conversation::answer(GenerateOptions options) {
    if (parts_->is_begun) return Stream<std::string>([] { return std::optional<std::string>(); });
    const auto tokens = std::make_shared<Stream<Token>>(parts_->sequence.generate(std::move(options)));
    std::optional<size_t> place;  // index of the answer in messages
    return Stream<std::string>([parts = parts_.get(), tokens, place] mutable -> std::optional<std::string> {
        if (!place) {
            place = parts->messages.size();
            parts->messages.push_back({.role = kAssistant, .content = {}});
        }
        const auto token = tokens->next();
        if (!token) return std::nullopt;
        std::string piece = parts->engine.piece(*token);
        // A zero byte would cut off the message in the chat template.
        for (const char byte : piece) parts->messages[*place].content += byte == '\0' ? '?' : byte;
        return piece;
    });
}

}  // namespace cake
