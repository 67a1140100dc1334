#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <span>
#include <string>

#include "cake/conversation.hpp"
#include "cake/engine.hpp"

namespace cake::cli {

/// Flags that select the model and how it is computed.
struct ModelFlags {
    std::string path;
    EngineOptions options;
    bool no_repack = false;

    void add_to(CLI::App& app);
    EngineOptions engine_options() const;
    /// Loads the model with this path or name.
    Result<Engine> load() const;
};

/// Flags for the K/V cache and eviction.
struct KvFlags {
    SequenceOptions options;
    int64_t tokens_per_layer = 0;
    std::optional<std::string> memory;
    double ratio = 0;

    void add_to(CLI::App& app);
    /// Add only the flags of the budget, or all flags except those of policy and budget.
    void add_budget_to(CLI::App& app);
    void add_method_to(CLI::App& app);
    /// The options that these flags set. Throws a usage error if they are invalid.
    SequenceOptions sequence_options() const;
    /// The same for each of several policies. `full`, which takes no budget, gets none if another policy takes it.
    std::vector<SequenceOptions> options_of(const std::vector<std::string>& policies) const;
};

/// Prints a warning if flags of KvFlags are set that none of the policies reads.
void warn_of_unread_flags(const CLI::App& app, std::span<const SequenceOptions> policies);

/// True if a flag that names the policy, its scorer or its allocator is given.
bool names_policy(const CLI::App& app);

/// True if the policy evicts tokens, so that a budget has an effect.
bool evicts(const SequenceOptions& options);

/// Refuses -c and the flags of KvFlags, because a saved session is loaded, which determines them. `otherwise`: the
/// alternative that the error message suggests. `allowed`: a flag that is not refused.
void refuse_kept_flags(const CLI::App& app, std::string_view otherwise, std::string_view allowed = {});

/// Flags for the length of an answer and for sampling.
struct AnswerFlags {
    int64_t n_predict = -1;
    SamplingOptions sampling;
    bool ignore_eos = false;

    void add_to(CLI::App& app);
};

/// Flags for the chat template.
struct TemplateFlags {
    std::string name;
    std::string file;
    std::string kwargs;

    void add_to(CLI::App& app);
    /// Reads the template file, if one is set. Fails if this is not possible.
    Result<ChatOptions> chat_options() const;
    Result<void> apply_to(ConversationOptions& options) const;
};

/// --temp and the other flags for sampling.
void add_sampling(CLI::App& app, SamplingOptions& sampling);

/// --segment: tokens of a segment; 0 for the whole text.
void add_segment(CLI::App& app, int64_t& segment);

/// -c: maximum tokens of prompt and answer; 0 for no limit.
void add_context(CLI::App& app, int64_t& n_ctx);

}  // namespace cake::cli
