#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/ask_report.hpp"
#include "cli/dialog.hpp"
#include "cli/documents.hpp"
#include "cli/flags.hpp"
#include "cli/line_editor.hpp"

namespace cake::cli {

struct AskFlags {
    ModelFlags model;
    KvFlags kv;
    AnswerFlags answer{.n_predict = 512, .sampling = {.temperature = 0}};
    TemplateFlags chat_template;
    ConversationOptions conversation;
    std::vector<std::string> files;
    std::string document_file;  // a file of cake read, instead of `files`
    std::vector<std::string> questions;
    int64_t n_sources = 0;
    int64_t segment = 0;
    int64_t n_ctx = 0;
    bool window_given = false;
    bool policy_given = false;
    bool interactive = false;
    bool json = false;
    bool allow_repetition = false;
};

/// One run of `cake ask`: prefills the documents, followed by the questions, and answers one question after another.
class Asking {
  public:
    explicit Asking(const AskFlags& flags) : flags_(flags) {}
    /// Returns the exit code.
    int execute();

  private:
    Result<void> run();
    Result<void> prepare();
    Result<void> load_documents();
    Result<void> load_dialog();
    Result<void> read_documents_first();
    Result<void> read_documents_with(const std::vector<std::string>& questions);
    Result<void> start(const DocumentText& text, const std::vector<std::string>& questions);
    Result<void> find_sources(const DocumentText& text);
    Result<void> ask_first(const std::vector<std::string>& questions);
    Result<void> read(const std::string& before, const std::string& question);
    Result<void> answer(const std::string& question, size_t number);
    Result<void> stream(Answer& answer);
    int64_t n_predict() const;
    Result<void> observe(int64_t& n_seen);
    Result<void> show_sources(Answer& answer);
    Result<void> follow_up();
    std::optional<std::string> next_question();

    const AskFlags& flags_;
    LineEditor editor_;
    std::vector<Document> documents_;
    std::unique_ptr<Engine> engine_;
    std::unique_ptr<Dialog> dialog_;
    std::unique_ptr<SourceFinder> sources_;  // null without --sources
    AskReport report_;
};

}  // namespace cake::cli
