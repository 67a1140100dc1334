#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cake/chat.hpp"
#include "text/reply_format.hpp"
#include "text/tool.hpp"
#include "text/vocabulary.hpp"

namespace cake {

/// How the answers of a model are to be read.
struct ReplyStyle {
    const ReplyFormat* format = nullptr;        // how calls are written; never null when it comes from reply_style_of()
    bool template_has_tools = false;            // false: the conversation has to describe the tools itself
    std::optional<ReasoningMarks> reasoning{};  // not set: none is known
};

/// The style that the chat template describes which `options` choose.
ReplyStyle reply_style_of(const Vocabulary& vocabulary, const ChatOptions& options);

/// Rewrites a conversation for a template that knows nothing of tools, in the format of usual_reply_format(): the
/// system message describes `tools` (a JSON array as in the OpenAI API; empty: none), and calls and their results are
/// texts.
std::vector<ChatMessage> with_tools_as_text(std::span<const ChatMessage> messages, const std::string& tools);

}  // namespace cake
