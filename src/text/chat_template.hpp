#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cake/chat.hpp"
#include "cake/error.hpp"
#include "text/typed_text.hpp"
#include "text/vocabulary.hpp"

namespace cake {

/// A conversation in a chat template: the model's, or the one that the options name. The first token of the vocabulary,
/// which tokenize_chat() puts before a text, is left out where the template writes it.
Result<ChatText> render_chat(const Vocabulary& vocabulary, std::span<const ChatMessage> messages,
                             const ChatOptions& options);

/// Its tokens: those of llama_tokenize() with special tokens, but that what is typed is read as text. `continues`: the
/// text goes on after another.
Result<std::vector<int32_t>> tokenize_chat(const Vocabulary& vocabulary, const ChatText& text, bool continues);

}  // namespace cake
