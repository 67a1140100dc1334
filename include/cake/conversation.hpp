#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "cake/chat.hpp"
#include "cake/engine.hpp"
#include "cake/export.hpp"

namespace cake {

struct ConversationOptions {
    SequenceOptions sequence{};
    std::string system{};                // system message; empty: none
    std::string chat_template{};         // name of a template in libllama; empty: the model's own
    std::string chat_template_source{};  // source of a template (Jinja), instead of the model's
    std::string chat_template_kwargs{};  // a JSON object of template variables
};

/// A conversation of many turns within one budget. Each message is rendered with the model's chat template, prefilled
/// over the tokens kept from earlier turns, and answered.
class CAKE_API Conversation {
  public:
    Conversation(Conversation&&) noexcept;
    Conversation& operator=(Conversation&&) noexcept;
    ~Conversation();

    /// Fails if there is no chat template.
    static Result<Conversation> start(const Engine& engine, const ConversationOptions& options = {});
    /// Continues from a file written by save(), or by Sequence::save(), whose text then precedes the conversation. Only
    /// the template options are used. `n_more`: as in Sequence::load().
    static Result<Conversation> load(const Engine& engine, const std::string& path,
                                     const ConversationOptions& options = {}, int64_t n_more = 0);
    Result<void> save(const std::string& path);
    /// Text of the application that is saved with the conversation.
    const std::string& note() const;
    void set_note(std::string note);

    /// Prefills the beginning of a message of the user, such as a document, before it is known what will be asked. The
    /// next ask() completes the message.
    Result<void> begin(const std::string& text, const AppendOptions& options = {});
    /// True after begin() and before the ask() that follows it. The last message is then the beginning of one.
    bool is_begun() const;

    /// Prefills a message of the user. If this fails, for example because the context is full, the message is not added
    /// to the conversation.
    Result<void> ask(const std::string& message, const AppendOptions& options = {});

    /// Generates the answer, piece by piece; nothing after begin(). The conversation must outlive the stream.
    /// sequence().finish_reason() says why the answer ended.
    Stream<std::string> answer(GenerateOptions options);

    const std::vector<ChatMessage>& messages() const;
    /// Tokens that the last begin() or ask() prefilled, including those of the template. Until the answer begins, they
    /// are the last tokens of sequence().
    std::span<const Token> last_prompt() const;
    const Sequence& sequence() const;

  private:
    struct Parts;
    explicit Conversation(std::unique_ptr<Parts> parts);

    std::unique_ptr<Parts> parts_;
};

}  // namespace cake
