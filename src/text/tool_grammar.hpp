#pragma once

#include <string>

#include "text/reply_reader.hpp"
#include "text/vocabulary.hpp"

namespace cake {

/// Which calls an answer may contain.
struct ToolChoice {
    bool is_required = false;      // at least one call, and no other content
    bool is_parallel = true;       // several calls
    std::string content_schema{};  // JSON schema of an answer without calls; empty: any text
};

/// A grammar in Lark, in the variant of llguidance, for an answer with calls of the reply's tools: once a call is
/// begun, its name is that of a tool and its arguments are valid. Reasoning may come before. Empty if the format does
/// not let calls be told from content before they end, and none is required.
std::string tool_grammar(const Vocabulary& vocabulary, const ReplyOptions& reply, ToolChoice choice);

}  // namespace cake
