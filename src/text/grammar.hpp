#pragma once

#include <llama-cpp.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "cake/error.hpp"
#include "text/restriction.hpp"

namespace cake {

/// Max size of a grammar.
inline constexpr size_t kMaxGrammarBytes = size_t{64} << 10U;
inline constexpr size_t kMaxGrammarRules = 2000;

/// A grammar in GBNF that has been checked. libllama trusts its grammars, and hangs or aborts on some of them.
class CheckedGrammar {
  public:
    const std::string& gbnf() const { return gbnf_; }

  private:
    explicit CheckedGrammar(std::string gbnf) : gbnf_(std::move(gbnf)) {}
    friend Result<CheckedGrammar> check_grammar(std::string gbnf);

    std::string gbnf_;
};

/// Checks a grammar for use with libllama. Whether the number of readings of a text grows too large is tested on sample
/// texts only; see rule_of_many_readings().
Result<CheckedGrammar> check_grammar(std::string gbnf);

/// Checks a grammar in GBNF as check_grammar() does.
Result<std::shared_ptr<const ConstraintRule>> make_gbnf_rule(std::string gbnf);

/// A text in UTF-8 that libllama restricts to a grammar.
class Grammar final : public Restriction {
  public:
    /// Creates the state at the beginning of a text, which must match the rule `root`.
    static Result<Grammar> create(const llama_vocab* vocab, const CheckedGrammar& grammar);

    bool allows(int32_t token) override;
    std::optional<int32_t> end() override;
    void restrict(llama_token_data_array& candidates) override;
    Result<void> accept(int32_t token) override;
    std::string failure() const override;

  private:
    Grammar(const llama_vocab* vocab, llama_sampler_ptr sampler) : vocab_(vocab), sampler_(std::move(sampler)) {}
    bool keeps_utf8(int32_t token) const;

    const llama_vocab* vocab_;
    llama_sampler_ptr sampler_;
    std::string character_;  // bytes of the last character if it is incomplete
    bool is_stuck_ = false;  // true after an error or a call that took too long; nothing is allowed any more
};

}  // namespace cake
