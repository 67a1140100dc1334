#pragma once

#include <span>
#include <string>
#include <variant>
#include <vector>

#include "cake/conversation.hpp"

namespace cake::cli {

/// Questions and answers in one session: in the model's chat template or, if it has none, one after another in a plain
/// text, "Answer:" after each question.
class Dialog {
  public:
    static Result<Dialog> start(const Engine& engine, const ConversationOptions& options);

    /// Reads a question, and `before` it the documents that it is about.
    Result<void> ask(const std::string& before, const std::string& question, const AppendOptions& options);
    /// The answer, piece by piece. In a plain text it ends where the model goes on to a question of its own.
    Stream<std::string> answer(GenerateOptions options);

    /// Tokens of the message that was read last, with those around it.
    std::span<const Token> last_prompt() const;
    const Sequence& sequence() const;
    FinishReason finish_reason() const;
    int64_t n_drawn() const { return n_drawn_; }  // tokens of the last answer

  private:
    /// A model without a template has a sequence alone.
    using Session = std::variant<Conversation, Sequence>;

    Dialog(const Engine& engine, Session session) : engine_(engine), session_(std::move(session)) {}
    Result<std::vector<Token>> plain_tokens(const std::string& before, const std::string& question) const;
    Stream<std::string> answer_in_template(GenerateOptions options);
    Stream<std::string> plain_answer(GenerateOptions options);

    Engine engine_;
    Session session_;
    std::vector<Token> plain_prompt_;
    int64_t n_drawn_ = 0;
    bool stopped_ = false;  // the last answer ended at kQuestion, which the sequence has read
};

}  // namespace cake::cli
