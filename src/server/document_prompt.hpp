#pragma once

#include <vector>

#include "server/document_shelf.hpp"

namespace cake::server {

/// The tokens of a conversation about a document, beginning with those of the document. The document stands before the
/// first message of the user; a system message of the conversation stands between the two.
Result<std::vector<Token>> document_tokens(const Engine& engine, const SharedDocument& document,
                                           const std::vector<ChatMessage>& messages, const ChatOptions& options);

/// The options of a sequence that continues a document: its policy, and its budget beside that of `usual`.
SequenceOptions document_options(const SharedDocument& document, const SequenceOptions& usual);

}  // namespace cake::server
