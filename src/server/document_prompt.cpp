#include "server/document_prompt.hpp"

#include <algorithm>
#include <variant>

#include "engine/engine_state.hpp"
#include "server/chat_messages.hpp"
#include "text/chat_template.hpp"

namespace cake::server {

Result<std::vector<Token>> document_tokens(const Engine& engine, const SharedDocument& document,
                                           const std::vector<ChatMessage>& messages, const ChatOptions& options) {
    const auto first = std::ranges::find_if_not(messages, is_system);
    if (first == messages.end() || first->role != "user")
        return fail("a conversation about a document begins with a message of the user");
    auto whole = document.messages;
    for (auto message = messages.begin(); message != first; ++message)
        whole.back().content += message->content + "\n\n";
    whole.back().content += "Question: " + first->content;
    whole.insert(whole.end(), first + 1, messages.end());

    // Both are rendered now, because a template may write the date, and a request may set variables of the template.
    const auto& vocabulary = EngineAccess::state(engine)->vocabulary;
    auto begun_options = options;
    begun_options.continue_final_message = true;
    const auto begun = render_chat(vocabulary, document.messages, begun_options);
    if (!begun) return std::unexpected(begun.error());
    const auto text = render_chat(vocabulary, whole, options);
    if (!text) return std::unexpected(text.error());
    if (!text->text.starts_with(begun->text))
        return fail("the chat template writes the document in another way when a conversation follows");
    const auto rest = tokenize_chat(vocabulary, text->from(begun->text.size()), true);
    if (!rest) return rest;
    auto tokens = document.tokens;
    tokens.append_range(*rest);
    return tokens;
}

SequenceOptions document_options(const SharedDocument& document, const SequenceOptions& usual) {
    const auto* budget = usual.budget ? std::get_if<TokensPerLayer>(&*usual.budget) : nullptr;
    auto options = document.sequence;
    options.budget =
        TokensPerLayer{document.file.tokens_per_layer + (budget != nullptr ? *budget : TokensPerLayer{}).tokens};
    return options;
}

}  // namespace cake::server
