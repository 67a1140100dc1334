#include "cake/conversation.hpp"

#include <algorithm>
#include <memory>
#include <optional>

#include "engine/engine_state.hpp"
#include "engine/json_fields.hpp"
#include "text/chat_template.hpp"
#include "text/json_text.hpp"

namespace cake {

namespace {

constexpr const char* kAssistant = "assistant";
constexpr const char* kUser = "user";
constexpr const char* kSpace = " \t\r\n";

/// The messages of a saved conversation; empty if the session was not saved by a Conversation.
std::vector<ChatMessage> read_messages(const std::string& note) {
    std::vector<ChatMessage> messages;
    const Json saved = parse_json(note);
    if (!saved.is_object() || !saved.contains("messages") || !saved["messages"].is_array()) return messages;
    for (const auto& message : saved["messages"]) {
        const auto text = [&](const char* key) {
            const bool good = message.is_object() && message.contains(key) && message[key].is_string();
            return good ? message[key].get<std::string>() : std::string();
        };
        messages.push_back({.role = text("role"), .content = text("content")});
    }
    return messages;
}

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
    std::vector<Token> last_prompt{};

    const Vocabulary& vocabulary() const { return EngineAccess::state(engine)->vocabulary; }
    Result<ChatText> render(size_t n_messages, bool answer) const;
    Result<ChatText> text_since_last_answer() const;
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
                                        const ConversationOptions& options) {
    auto sequence = Sequence::load(engine, path);
    if (!sequence) return std::unexpected(sequence.error());
    auto parts = std::make_unique<Parts>(engine, std::move(*sequence), chat_options(options));
    parts->messages = read_messages(parts->sequence.note());
    return Conversation(std::move(parts));
}

Result<void> Conversation::save(const std::string& path) {
    Json messages = Json::array();
    for (const auto& message : parts_->messages)
        messages.push_back({{"role", message.role}, {"content", message.content}});
    parts_->sequence.set_note(json_text(Json{{"messages", std::move(messages)}}));
    return parts_->sequence.save(path);
}

Result<ChatText> Conversation::Parts::render(size_t n_messages, bool answer) const {
    ChatOptions options = chat;
    options.add_generation_prompt = answer;
    return render_chat(vocabulary(), std::span(messages).first(n_messages), options);
}

/// The part of the rendered conversation after the last answer, which has not been prefilled yet.
Result<ChatText> Conversation::Parts::text_since_last_answer() const {
    auto whole = render(messages.size(), true);
    if (!whole) return whole;
    const size_t n_before = messages.size() - 1;
    if (n_before == 0 || messages[n_before - 1].role != kAssistant) return whole;
    const auto asked = render(n_before - 1, true);
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
    const auto before = render(n_before, false);
    return before && whole->text.starts_with(before->text) ? whole->from(before->text.size()) : whole;
}

Result<void> Conversation::ask(const std::string& message, const AppendOptions& options) {
    auto& [engine, sequence, chat, messages, last_prompt] = *parts_;
    const size_t n_before = messages.size();
    // If the last message has no answer, the cache already ends with the prompt for one: record an empty answer.
    if (n_before > 0 && messages.back().role == kUser) messages.push_back({.role = kAssistant, .content = {}});
    messages.push_back({.role = kUser, .content = message});
    const auto read = [&] -> Result<void> {
        const auto text = parts_->text_since_last_answer();
        if (!text) return std::unexpected(text.error());
        auto tokens = tokenize_chat(parts_->vocabulary(), *text, sequence.n_tokens() > 0);
        if (!tokens) return std::unexpected(tokens.error());
        last_prompt = std::move(*tokens);
        return sequence.append(last_prompt, options);
    };
    auto done = read();
    if (!done) messages.resize(n_before);
    return done;
}

Stream<std::string> Conversation::answer(GenerateOptions options) {
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
