#include "cli/dialog.hpp"

#include <algorithm>
#include <format>
#include <optional>
#include <string_view>
#include <utility>

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
    return std::format("{}{} {}", before, kQuestion, question);
}

}  // namespace

Result<Dialog> Dialog::start(const Engine& engine, const ConversationOptions& options) {
    if (engine.has_chat_template() || !options.chat_template.empty() || !options.chat_template_source.empty()) {
        auto conversation = Conversation::start(engine, options);
        if (!conversation) return std::unexpected(conversation.error());
        return Dialog(engine, std::move(*conversation));
    }
    auto sequence = engine.sequence(options.sequence);
    if (!sequence) return std::unexpected(sequence.error());
    return Dialog(engine, std::move(*sequence));
}

const Sequence& Dialog::sequence() const {
    const auto* conversation = std::get_if<Conversation>(&session_);
    return conversation != nullptr ? conversation->sequence() : std::get<Sequence>(session_);
}

Result<void> Dialog::ask(const std::string& before, const std::string& question, const AppendOptions& options) {
    if (auto* conversation = std::get_if<Conversation>(&session_))
        return conversation->ask(before.empty() ? question : with_question(before, question), options);
    auto tokens = plain_tokens(before, question);
    if (!tokens) return std::unexpected(tokens.error());
    plain_prompt_ = std::move(*tokens);
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

/// Tokens of a question in plain text. Names of special tokens in documents and questions are treated as text.
Result<std::vector<Token>> Dialog::plain_tokens(const std::string& before, const std::string& question) const {
    const bool begins = sequence().n_tokens() == 0;
    const auto text = stopped_ ? before + " " + question : (begins ? "" : "\n\n") + with_question(before, question);
    auto tokens = engine_.tokenize(text + "\nAnswer:", false);
    const auto first = engine_.first_token();
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
