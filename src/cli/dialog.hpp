#pragma once

#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "cake/conversation.hpp"

namespace cake::cli {

/// Questions and answers in one session, in the model's chat template. For a model without one, they are plain text:
/// "Question: …", then "Answer:" and the answer.
class Dialog {
  public:
    static Result<Dialog> start(const Engine& engine, const ConversationOptions& options);
    /// Continues from a file of save(). `n_more`: as in Sequence::load(). Fails if the file was not saved after
    /// begin().
    static Result<Dialog> load(const Engine& engine, const std::string& path, const ConversationOptions& options,
                               int64_t n_more);

    /// Prefills a text that the first question will be about, before that question is known.
    Result<void> begin(const std::string& text, const AppendOptions& options);
    /// Fails if save() could not save this text after begin() has read it, because it is too long.
    Result<void> check_size(const std::string& text, const std::string& note) const;
    /// Saves what begin() has read. `note`: text to save with it.
    Result<void> save(const std::string& path, const std::string& note);
    /// The text that begin() has read, and the note that was saved with it.
    const std::string& begun_text() const;
    const std::string& note() const;

    /// Prefills a question. `before`: text to put before it, such as the documents.
    Result<void> ask(const std::string& before, const std::string& question, const AppendOptions& options);
    /// Generates the answer, piece by piece. In plain text, it ends if the model begins a question of its own.
    Stream<std::string> answer(GenerateOptions options);

    /// Tokens of the last prompt, including those of the template.
    std::span<const Token> last_prompt() const;
    const Sequence& sequence() const;
    FinishReason finish_reason() const;
    int64_t n_drawn() const { return n_drawn_; }  // number of tokens of the last answer

  private:
    /// What begin() has read in plain text.
    struct PlainText {
        std::string text;
        std::string note;
        bool is_begun = false;  // nothing has been asked yet
    };

    /// A Sequence if the model has no chat template.
    using Session = std::variant<Conversation, Sequence>;

    Dialog(const Engine& engine, Session session) : engine_(engine), session_(std::move(session)) {}
    static std::string write_plain(const PlainText& plain);
    static std::optional<PlainText> read_plain(const std::string& saved);
    Result<std::vector<Token>> plain_tokens(const std::string& text) const;
    std::string plain_question(const std::string& before, const std::string& question) const;
    Stream<std::string> answer_in_template(GenerateOptions options);
    Stream<std::string> plain_answer(GenerateOptions options);

    Engine engine_;
    Session session_;
    std::vector<Token> plain_prompt_;
    PlainText plain_;
    int64_t n_drawn_ = 0;
    bool stopped_ = false;  // true if the last answer ended at kStop: the sequence then ends with "Question:" already
};

}  // namespace cake::cli
