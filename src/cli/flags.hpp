#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <span>
#include <string>

#include "cake/conversation.hpp"
#include "cake/engine.hpp"

namespace cake::cli {

/// Flags that say which model, and how it is computed.
struct ModelFlags {
    std::string path;
    EngineOptions options;
    bool no_repack = false;

    void add_to(CLI::App& app);
    EngineOptions engine_options() const;
    /// The model of that path or name.
    Result<Engine> load() const;
};

/// Flags that say what is kept.
struct KvFlags {
    SequenceOptions options;
    int64_t tokens_per_layer = 0;
    std::optional<std::string> memory;
    double ratio = 0;

    void add_to(CLI::App& app);
    /// The budget alone, and all but policy and budget.
    void add_budget_to(CLI::App& app);
    void add_method_to(CLI::App& app);
    /// Names, numbers and the stated budget, checked; what is wrong with them is wrong usage.
    SequenceOptions sequence_options() const;
    /// The same for each of several policies; a budget is that of those that take one.
    std::vector<SequenceOptions> options_of(const std::vector<std::string>& policies) const;
};

/// Warns in one line of the method's flags that were given and that none of the policies reads.
void warn_of_unread_flags(const CLI::App& app, std::span<const SequenceOptions> policies);

/// Whether a budget means something: `full` keeps everything.
bool evicts(const SequenceOptions& options);

/// Refuses, beside a saved session, the flags of -c and of what is kept, which it has decided; `otherwise` says what
/// would work.
void refuse_kept_flags(const CLI::App& app, std::string_view otherwise);

/// Flags that say how long an answer is and how its tokens are drawn.
struct AnswerFlags {
    int64_t n_predict = -1;
    SamplingOptions sampling;
    bool ignore_eos = false;

    void add_to(CLI::App& app);
};

/// Flags that say in which template a conversation is put.
struct TemplateFlags {
    std::string name;
    std::string file;
    std::string kwargs;

    void add_to(CLI::App& app);
    /// With the file's text; an error if it cannot be read.
    Result<ChatOptions> chat_options() const;
    Result<void> apply_to(ConversationOptions& options) const;
};

/// --temp and its like.
void add_sampling(CLI::App& app, SamplingOptions& sampling);

/// --segment: tokens of a segment; 0 for the whole text.
void add_segment(CLI::App& app, int64_t& segment);

/// -c: maximum tokens in all; 0 for no limit.
void add_context(CLI::App& app, int64_t& n_ctx);

}  // namespace cake::cli
