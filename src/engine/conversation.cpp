#include "cake/conversation.hpp"

#include <algorithm>

#include "cake/token_stream.hpp"
#include "engine/json_fields.hpp"

namespace cake {

namespace {

constexpr const char* kAssistant = "assistant";
constexpr const char* kUser = "user";
constexpr const char* kSpace = " \t\r\n";

/// What a saved conversation says beside its cache; empty where it was saved as a plain text.
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

/// What follows an answer, of which the template may have left the white space at its end.
std::string behind(std::string_view text, std::string_view answer) {
    const auto space = answer.substr(answer.find_last_not_of(kSpace) + 1);
    return std::string(std::ranges::mismatch(text, space).in1, text.end());
}

std::string_view trimmed(std::string_view text) {
    const auto begin = text.find_first_not_of(kSpace);
    return begin == std::string_view::npos ? std::string_view()
                                           : text.substr(begin, text.find_last_not_of(kSpace) + 1 - begin);
}

}  // namespace

Result<Conversation> Conversation::start(const Engine& engine, const ConversationOptions& options) {
    auto sequence = engine.sequence(options.sequence);
    if (!sequence) return std::unexpected(sequence.error());
    Conversation result(engine, std::move(*sequence), options.chat_template);
    if (!options.system.empty()) result.messages_.push_back({.role = "system", .content = options.system});
    const ChatMessage trial{.role = kUser, .content = "?"};
    if (auto possible = engine.chat_prompt({&trial, 1}, true, options.chat_template); !possible)
        return std::unexpected(possible.error());
    return result;
}

Result<Conversation> Conversation::load(const Engine& engine, const std::string& path,
                                        const ConversationOptions& options) {
    auto sequence = Sequence::load(engine, path);
    if (!sequence) return std::unexpected(sequence.error());
    Conversation result(engine, std::move(*sequence), options.chat_template);
    result.messages_ = read_messages(result.sequence_.note());
    return result;
}

Result<void> Conversation::save(const std::string& path) {
    Json messages = Json::array();
    for (const auto& message : messages_) messages.push_back({{"role", message.role}, {"content", message.content}});
    sequence_.set_note(Json{{"messages", std::move(messages)}}.dump(-1, ' ', false, Json::error_handler_t::replace));
    return sequence_.save(path);
}

Result<std::string> Conversation::render(size_t n_messages, bool answer) const {
    return engine_.chat_prompt(std::span(messages_).first(n_messages), answer, template_);
}

/// What the template makes of the conversation, behind what has been read and answered of it.
Result<std::string> Conversation::text_since_last_answer() const {
    auto whole = render(messages_.size(), true);
    if (!whole) return whole;
    const size_t n_before = messages_.size() - 1;
    if (n_before == 0 || messages_[n_before - 1].role != kAssistant) return whole;
    const auto asked = render(n_before - 1, true);
    if (!asked) return asked;
    // Templates add or drop white space around an answer.
    if (whole->starts_with(*asked)) {
        const std::string& content = messages_[n_before - 1].content;
        const auto answer = trimmed(content);
        const auto rest = std::string_view(*whole).substr(asked->size());
        const size_t begin = answer.empty() ? 0 : std::min(rest.find_first_not_of(kSpace), rest.size());
        if (rest.substr(begin).starts_with(answer)) return behind(rest.substr(begin + answer.size()), content);
    }
    // A template that changes answers: begin where it begins the new message.
    const auto before = render(n_before, false);
    return before && whole->starts_with(*before) ? whole->substr(before->size()) : whole;
}

Result<void> Conversation::ask(const std::string& message, const AppendOptions& options) {
    const size_t n_before = messages_.size();
    // What was asked before and not answered has been read to where an answer begins: that was an empty one.
    if (n_before > 0 && messages_.back().role == kUser) messages_.push_back({.role = kAssistant, .content = {}});
    messages_.push_back({.role = kUser, .content = message});
    const auto read = [&]() -> Result<void> {
        const auto text = text_since_last_answer();
        if (!text) return std::unexpected(text.error());
        auto tokens = TokenStream::whole(engine_, *text, sequence_.n_tokens() > 0);
        if (!tokens) return std::unexpected(tokens.error());
        last_prompt_ = std::move(*tokens);
        return sequence_.append(last_prompt_, options);
    };
    auto done = read();
    if (!done) messages_.resize(n_before);
    return done;
}

std::generator<std::string> Conversation::answer(GenerateOptions options) {
    messages_.push_back({.role = kAssistant, .content = {}});
    const size_t place = messages_.size() - 1;
    for (const Token token : sequence_.generate(std::move(options))) {
        std::string piece = engine_.piece(token);
        // A template's text ends at a zero byte.
        for (const char byte : piece) messages_[place].content += byte == '\0' ? '?' : byte;
        co_yield std::move(piece);
    }
}

}  // namespace cake
