#include "text/grammar.hpp"

#include <fmt/format.h>
#include <llama.h>

#include <chrono>
#include <exception>
#include <limits>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "text/gbnf.hpp"
#include "text/gbnf_check.hpp"
#include "text/utf8.hpp"
#include "text/vocabulary.hpp"

namespace cake {

namespace {

constexpr float kImpossible = -std::numeric_limits<float>::infinity();

/// Time limit of a call. If the number of readings of a text keeps growing, each call takes longer than the one before.
constexpr std::chrono::seconds kLongestCall{3};

/// False for control and unknown tokens, which have no text. libllama would match their names.
bool has_text(const llama_vocab* vocab, llama_token token) {
    constexpr int kNoText = LLAMA_TOKEN_ATTR_UNKNOWN | LLAMA_TOKEN_ATTR_CONTROL;
    return (llama_vocab_get_attr(vocab, token) & kNoText) == 0;
}

class GbnfRule final : public ConstraintRule {
  public:
    explicit GbnfRule(CheckedGrammar grammar) : grammar_(std::move(grammar)) {}

    Result<std::unique_ptr<Restriction>> begin(const Vocabulary& vocabulary) const override {
        auto read = Grammar::create(vocabulary.get(), grammar_);
        if (!read) return std::unexpected(read.error());
        return std::make_unique<Grammar>(std::move(*read));
    }
    const std::vector<std::string>& not_enforced() const override {
        static const std::vector<std::string> none;
        return none;
    }

  private:
    CheckedGrammar grammar_;
};

}  // namespace

Result<CheckedGrammar> check_grammar(std::string gbnf) {
    if (gbnf.size() > kMaxGrammarBytes)
        return fail(fmt::format("a grammar of more than {} bytes is not accepted", kMaxGrammarBytes));
    if (gbnf.contains('\0') || !is_utf8(gbnf)) return fail("the grammar is not valid UTF-8");
    const auto bnf = parse_gbnf(gbnf, kMaxGrammarRules);
    if (!bnf) return std::unexpected(bnf.error());
    if (auto checked = check_rules(*bnf); !checked) return std::unexpected(checked.error());
    return CheckedGrammar(std::move(gbnf));
}

Result<Grammar> Grammar::create(const llama_vocab* vocab, const CheckedGrammar& grammar) {
    llama_sampler_ptr sampler;
    try {
        sampler.reset(llama_sampler_init_grammar(vocab, grammar.gbnf().c_str(), "root"));
    } catch (const std::exception& error) {
        return fail(fmt::format("the grammar cannot be read: {}", error.what()));
    }
    if (!sampler) return fail("the grammar cannot be read: libllama does not accept it");
    return Grammar(vocab, std::move(sampler));
}

Result<std::shared_ptr<const ConstraintRule>> make_gbnf_rule(std::string gbnf) {
    auto checked = check_grammar(std::move(gbnf));
    if (!checked) return std::unexpected(checked.error());
    return std::make_shared<GbnfRule>(std::move(*checked));
}

std::optional<int32_t> Grammar::end() {
    for (const llama_token token : {llama_vocab_eos(vocab_), llama_vocab_eot(vocab_)})
        if (token != LLAMA_TOKEN_NULL && allows(token)) return token;
    return std::nullopt;
}

/// True if the text is still valid UTF-8 with this token. libllama does not ensure it: it takes any byte from F0 on for
/// the beginning of a character, and accepts surrogates.
bool Grammar::keeps_utf8(int32_t token) const {
    if (llama_vocab_is_eog(vocab_, token)) return character_.empty();
    const auto text = character_ + token_piece(vocab_, token);
    return is_utf8(std::string_view(text).substr(0, text.size() - bytes_begun(text)));
}

bool Grammar::allows(int32_t token) {
    if (token < 0 || token >= llama_vocab_n_tokens(vocab_)) return false;
    llama_token_data candidate{.id = token, .logit = 0, .p = 0};
    llama_token_data_array candidates{.data = &candidate, .size = 1, .selected = -1, .sorted = false};
    restrict(candidates);
    return candidate.logit == 0;
}

void Grammar::restrict(llama_token_data_array& candidates) {
    const auto begin = std::chrono::steady_clock::now();
    const auto all = std::span(candidates.data, candidates.size);
    if (!is_stuck_) {
        try {
            llama_sampler_apply(sampler_.get(), &candidates);
        } catch (const std::exception&) {
            is_stuck_ = true;
        }
    }
    for (auto& candidate : all) {
        if (candidate.logit == kImpossible) continue;
        const bool ends = llama_vocab_is_eog(vocab_, candidate.id);
        if (is_stuck_ || (!ends && !has_text(vocab_, candidate.id)) || !keeps_utf8(candidate.id))
            candidate.logit = kImpossible;
    }
    if (std::chrono::steady_clock::now() - begin > kLongestCall) is_stuck_ = true;
}

std::string Grammar::failure() const {
    return is_stuck_ ? "the grammar allows too many ways to read this text: make its alternatives begin differently"
                     : "";
}

Result<void> Grammar::accept(int32_t token) {
    // libllama aborts if the text ends where the grammar does not allow it.
    if (!allows(token)) {
        const bool was_stuck = is_stuck_;
        is_stuck_ = true;
        return fail(was_stuck ? failure() : fmt::format("the grammar does not allow the token {} here", token));
    }
    const auto begin = std::chrono::steady_clock::now();
    character_ += token_piece(vocab_, token);
    character_.erase(0, character_.size() - bytes_begun(character_));
    try {
        llama_sampler_accept(sampler_.get(), token);
    } catch (const std::exception& error) {
        is_stuck_ = true;
        return fail(fmt::format("the grammar cannot continue with the token {}: {}", token, error.what()));
    }
    if (std::chrono::steady_clock::now() - begin > kLongestCall) is_stuck_ = true;
    return {};
}

}  // namespace cake
