#include "cli/ask_options.hpp"

#include <algorithm>
#include <variant>

#include "cake/policy.hpp"
#include "cli/flags.hpp"

namespace cake::cli {

namespace {

constexpr int64_t kMaxWindow = 1024;
constexpr int64_t kTemplateTokens = 16;  // allowance for the tokens of a chat template after a question

Result<int64_t> count_tokens(const Engine& engine, const std::string& text) {
    return engine.tokenize(text, false).transform([](const auto& tokens) {
        return static_cast<int64_t>(tokens.size());
    });
}

/// The budget in tokens per layer, approximately.
Result<int64_t> budget_tokens(const Engine& engine, const SequenceOptions& options, const std::string& documents) {
    const Budget budget = options.budget.value_or(TokensPerLayer{});
    if (const auto* tokens = std::get_if<TokensPerLayer>(&budget)) return tokens->tokens;
    if (const auto* share = std::get_if<KvRatio>(&budget)) {
        return count_tokens(engine, documents).transform([&](int64_t n) {
            return static_cast<int64_t>(share->ratio * static_cast<double>(n));
        });
    }
    return engine.kv_token_bytes(options.cache_type_k, options.cache_type_v).transform([&](const KvTokenBytes& token) {
        const auto& info = engine.info();
        const uint64_t fixed = engine.kv_bytes(token, info.n_swa, 0);
        const uint64_t bytes = std::get<KvBytes>(budget).bytes;
        const auto n_sliced = static_cast<uint64_t>(info.n_kv_layers - info.n_swa_layers);
        return static_cast<int64_t>((bytes - std::min(bytes, fixed)) / (token.layer * n_sliced));
    });
}

/// Widens the window so that it covers the questions, but not beyond half of the budget.
Result<void> widen_window(const Engine& engine, const DocumentText& documents,
                          const std::vector<std::string>& questions, SequenceOptions& options) {
    const auto n_tokens =
        count_tokens(engine, documents.text.substr(documents.list_begin) + "Question: " + questions.front());
    if (!n_tokens) return std::unexpected(n_tokens.error());
    const int64_t wanted = std::min(*n_tokens + kTemplateTokens, kMaxWindow);
    if (wanted <= options.window) return {};
    const auto budget = budget_tokens(engine, options, documents.text);
    if (!budget) return std::unexpected(budget.error());
    options.window = static_cast<int32_t>(std::max<int64_t>(options.window, std::min(wanted, *budget / 2)));
    return {};
}

/// Cache capacity for a policy that evicts nothing, in tokens. The cache is allocated at once.
Result<int64_t> full_cache_tokens(const Engine& engine, const AskPlan& plan, const DocumentText& documents,
                                  const std::vector<std::string>& questions) {
    constexpr int64_t kMargin = 1024;  // allowance for the chat template and the system message
    const int64_t trained = engine.info().n_ctx_train;
    auto n_tokens = count_tokens(engine, documents.text);
    if (!n_tokens) return n_tokens;
    int64_t n = *n_tokens + kMargin;
    for (const auto& question : questions) {
        const auto n_question = count_tokens(engine, question);
        if (!n_question) return n_question;
        n += 2 * *n_question + std::min(std::max<int64_t>(plan.answer_tokens, 0), trained);
    }
    const bool open_end = plan.open_end || plan.answer_tokens < 0;
    return open_end ? std::max(n + kMargin, trained) : n;
}

}  // namespace

Result<SequenceOptions> sequence_options(const Engine& engine, const AskPlan& plan, const DocumentText& documents,
                                         const std::vector<std::string>& questions) {
    auto options = plan.sequence;
    if (evicts(options)) {
        if (plan.window_given || questions.empty()) return options;
        return widen_window(engine, documents, questions, options).transform([&] { return options; });
    }
    if (options.max_tokens > 0) return options;
    return full_cache_tokens(engine, plan, documents, questions).transform([&](int64_t n) {
        options.max_tokens = n;
        return options;
    });
}

Result<SequenceOptions> agnostic_options(const Engine& engine, SequenceOptions options, const std::string& documents,
                                         bool policy_given) {
    if (!policy_given) options.policy = engine.sequence({.policy = kAgnosticPolicy}) ? kAgnosticPolicy : kDefaultPolicy;
    if (!evicts(options) || options.budget) return options;
    constexpr int64_t kShare = 20;
    return count_tokens(engine, documents).transform([&](int64_t n) {
        options.budget = TokensPerLayer{std::max(TokensPerLayer{}.tokens, n / kShare)};
        return options;
    });
}

}  // namespace cake::cli
