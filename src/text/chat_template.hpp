#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cake/chat.hpp"
#include "cake/error.hpp"
#include "text/typed_text.hpp"
#include "text/vocabulary.hpp"

namespace cake {

/// Renders a conversation with the chat template of the model, or with the one in the options. The first and the last
/// token of the vocabulary, which tokenize_chat() adds, are removed if the template writes them.
Result<ChatText> render_chat(const Vocabulary& vocabulary, std::span<const ChatMessage> messages,
                             const ChatOptions& options);

/// Identifies the template that render_chat() uses.
uint64_t chat_template_hash(const Vocabulary& vocabulary, const ChatOptions& options);

/// Tokenizes a rendered conversation as llama_tokenize() does with special tokens, except that typed names of control
/// tokens are tokenized as text. `continues`: the text follows another one, so the first token is not added.
Result<std::vector<int32_t>> tokenize_chat(const Vocabulary& vocabulary, const ChatText& text, bool continues);

}  // namespace cake
