#pragma once

#include <span>
#include <string>
#include <vector>

#include "cake/chat.hpp"
#include "cake/engine.hpp"
#include "cake/export.hpp"

namespace cake {

struct ChatText;

struct ConversationOptions {
    SequenceOptions sequence{};
    std::string system{};                // a message before the first, where it is not empty
    std::string chat_template{};         // one of libllama's by name; empty: the model's own
    std::string chat_template_source{};  // a template as a text (Jinja), instead of the model's
    std::string chat_template_kwargs{};  // a JSON object of further variables of the template
};

/// Many turns in one budget: each message is put into the model's chat template, read over what was kept of the turns
/// before it, and answered.
class CAKE_API Conversation {
  public:
    /// Fails where there is no template.
    static Result<Conversation> start(const Engine& engine, const ConversationOptions& options = {});
    /// Goes on from a file of save(), or of Sequence::save(), whose text is then what was said before. Of the options
    /// only the template counts.
    static Result<Conversation> load(const Engine& engine, const std::string& path,
                                     const ConversationOptions& options = {});
    Result<void> save(const std::string& path);

    /// Reads a message of the user. Where it fails, for the want of room, nothing has been said.
    Result<void> ask(const std::string& message, const AppendOptions& options = {});

    /// The answer, piece by piece. The conversation outlives the stream and is not moved. sequence().finish_reason()
    /// tells how it ended.
    Stream<std::string> answer(GenerateOptions options);

    const std::vector<ChatMessage>& messages() const { return messages_; }
    /// Tokens of the message that ask() read last, the template's around it included; the newest that sequence() has
    /// read until an answer begins.
    std::span<const Token> last_prompt() const { return last_prompt_; }
    const Sequence& sequence() const { return sequence_; }

  private:
    Conversation(const Engine& engine, Sequence sequence, ChatOptions chat)
        : engine_(engine), sequence_(std::move(sequence)), chat_(std::move(chat)) {}

    Result<ChatText> render(size_t n_messages, bool answer) const;
    Result<ChatText> text_since_last_answer() const;

    Engine engine_;
    Sequence sequence_;
    ChatOptions chat_;
    std::vector<ChatMessage> messages_;
    std::vector<Token> last_prompt_;
};

}  // namespace cake
