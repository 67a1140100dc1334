#include "text/guide.hpp"

#include <cake_bridge.h>
#include <fmt/format.h>

#include <limits>
#include <mutex>
#include <ranges>
#include <span>
#include <utility>
#include <vector>

#include "text/bridge_text.hpp"
#include "text/guide_tokens.hpp"
#include "text/vocabulary.hpp"

namespace cake {

namespace {

struct FreeGuide {
    void operator()(CakeGuide* guide) const { cake_free_guide(guide); }
};
using GuidePtr = std::unique_ptr<CakeGuide, FreeGuide>;

/// A text that llguidance restricts.
class Guide final : public Restriction {
  public:
    Guide(GuidePtr guide, std::shared_ptr<const GuideTokens> tokens)
        : guide_(std::move(guide)), tokens_(std::move(tokens)) {}

    bool allows(int32_t token) override {
        if (token < 0 || std::cmp_greater_equal(token, tokens_->n_tokens()) || !failure_.empty()) return false;
        BridgeText message;
        const bool allowed = cake_guide_allows(guide_.get(), static_cast<uint32_t>(token), message.out());
        note(message);
        return allowed;
    }

    void restrict(llama_token_data_array& candidates) override {
        constexpr size_t kBits = 32;
        mask_.assign((tokens_->n_tokens() + kBits - 1) / kBits, 0);
        if (failure_.empty()) {
            BridgeText message;
            cake_guide_mask(guide_.get(), mask_.data(), mask_.size(), message.out());
            note(message);
        }
        for (auto& candidate : std::span(candidates.data, candidates.size)) {
            const auto token = static_cast<size_t>(candidate.id);
            const bool allowed = token < tokens_->n_tokens() && ((mask_[token / kBits] >> (token % kBits)) & 1U) != 0;
            if (!allowed) candidate.logit = -std::numeric_limits<float>::infinity();
        }
    }

    std::optional<int32_t> end() override {
        if (!failure_.empty() || !cake_guide_may_end(guide_.get())) return std::nullopt;
        return tokens_->end_token();
    }

    Result<void> accept(int32_t token) override {
        BridgeText message;
        if (failure_.empty()) cake_guide_accept(guide_.get(), static_cast<uint32_t>(token), message.out());
        note(message);
        if (!failure_.empty()) return fail(failure_);
        return {};
    }

    std::string failure() const override { return failure_; }

  private:
    void note(const BridgeText& message) {
        if (failure_.empty() && !message.empty()) failure_ = fmt::format("the constraint failed: {}", message.text());
    }

    GuidePtr guide_;
    std::shared_ptr<const GuideTokens> tokens_;
    std::vector<uint32_t> mask_;  // a bit for each token
    std::string failure_;
};

class GuideRule final : public ConstraintRule {
  public:
    GuideRule(GuideKind kind, std::string text, bool lenient)
        : kind_(kind_of(kind)), text_(std::move(text)), lenient_(lenient) {}

    /// Compiles the constraint for single bytes, which shows whether it can be enforced.
    Result<void> check() {
        const auto made = compile(nullptr, &not_enforced_);
        if (!made) return std::unexpected(made.error());
        return {};
    }

    Result<std::unique_ptr<Restriction>> begin(const Vocabulary& vocabulary) const override {
        auto tokens = vocabulary.guide_tokens();
        if (!tokens) return std::unexpected(tokens.error());
        const std::lock_guard lock(mutex_);
        if (!first_ || first_tokens_ != *tokens) {
            auto made = compile((*tokens)->get());
            if (!made) return std::unexpected(made.error());
            first_ = std::move(*made);
            first_tokens_ = *tokens;
        }
        const CakeGuideMade copy = cake_copy_guide(first_.get());
        const BridgeText message(copy.message);
        if (copy.guide == nullptr) return fail(message.text());
        return std::make_unique<Guide>(GuidePtr(copy.guide), std::move(*tokens));
    }

    const std::vector<std::string>& not_enforced() const override { return not_enforced_; }

  private:
    static int32_t kind_of(GuideKind kind) {
        switch (kind) {
            case GuideKind::json_schema:
                return CAKE_GUIDE_JSON_SCHEMA;
            case GuideKind::regex:
                return CAKE_GUIDE_REGEX;
            case GuideKind::lark:
                break;
        }
        return CAKE_GUIDE_LARK;
    }

    /// `tokens`: null for single bytes. `not_enforced`: null, or where to add ignored keywords.
    Result<GuidePtr> compile(const CakeGuideTokens* tokens, std::vector<std::string>* not_enforced = nullptr) const {
        const CakeGuideSource source{.kind = kind_, .text = text_.data(), .n_text = text_.size(), .lenient = lenient_};
        const CakeGuideMade made = cake_make_guide(tokens, &source);
        const BridgeText message(made.message);
        if (made.guide == nullptr) return fail(message.text());
        if (not_enforced != nullptr)
            for (const auto line : std::views::split(message.view(), '\n'))
                if (!line.empty()) not_enforced->emplace_back(std::string_view(line));
        return GuidePtr(made.guide);
    }

    int32_t kind_;  // CakeGuideKind
    std::string text_;
    bool lenient_;
    std::vector<std::string> not_enforced_;
    mutable std::mutex mutex_;
    mutable GuidePtr first_;  // the beginning of a text, compiled for first_tokens_
    mutable std::shared_ptr<const GuideTokens> first_tokens_;
};

Result<void> check_size(std::string_view text) {
    if (text.size() <= kMaxGuideBytes) return {};
    return fail(fmt::format("it has {} bytes, and at most {} are accepted", text.size(), kMaxGuideBytes));
}

}  // namespace

Result<std::shared_ptr<const ConstraintRule>> make_guide_rule(GuideKind kind, std::string text, bool lenient) {
    if (auto small = check_size(text); !small) return std::unexpected(small.error());
    auto rule = std::make_shared<GuideRule>(kind, std::move(text), lenient);
    if (auto checked = rule->check(); !checked) return std::unexpected(checked.error());
    return rule;
}

Result<std::shared_ptr<const ConstraintRule>> make_lark_rule(const Vocabulary& vocabulary, std::string text) {
    if (auto small = check_size(text); !small) return std::unexpected(small.error());
    auto rule = std::make_shared<GuideRule>(GuideKind::lark, std::move(text), true);
    if (auto begun = rule->begin(vocabulary); !begun) return std::unexpected(begun.error());
    return rule;
}

}  // namespace cake
