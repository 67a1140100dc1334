#pragma once

#include <llama-cpp.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "cake/error.hpp"

namespace cake {

/// Max size of a grammar. The defaults are for grammars from outside.
struct GrammarLimits {
    size_t n_bytes = size_t{64} << 10U;
    size_t n_rules = 2000;
};
inline constexpr GrammarLimits kOwnGrammar{.n_bytes = size_t{256} << 10U, .n_rules = 20000};

/// A grammar in GBNF that has been checked. libllama trusts its grammars, and hangs or aborts on some of them.
class CheckedGrammar {
  public:
    const std::string& gbnf() const { return gbnf_; }

  private:
    explicit CheckedGrammar(std::string gbnf) : gbnf_(std::move(gbnf)) {}
    friend Result<CheckedGrammar> check_grammar(std::string gbnf, const GrammarLimits& limits);

    std::string gbnf_;
};

/// Checks a grammar for use with libllama. Whether the number of readings of a text grows too large is tested on sample
/// texts only; see rule_of_many_readings().
Result<CheckedGrammar> check_grammar(std::string gbnf, const GrammarLimits& limits = {});

/// Constrains a text in UTF-8 to a grammar while it is generated token by token.
class Grammar {
  public:
    /// Creates the state at the beginning of a text, which must match the rule `root`.
    static Result<Grammar> create(const llama_vocab* vocab, const CheckedGrammar& grammar);

    /// True if the token can come next; for an end-of-generation token, true if the text may end here.
    bool allows(int32_t token) const;

    /// A token that ends the text, if it may end here.
    std::optional<int32_t> end() const;

    /// Sets the logits of all tokens that cannot come next to minus infinity.
    void restrict(llama_token_data_array& candidates) const;

    /// Appends the token to the text. After an error, no token is allowed any more.
    Result<void> accept(int32_t token);

  private:
    Grammar(const llama_vocab* vocab, llama_sampler_ptr sampler) : vocab_(vocab), sampler_(std::move(sampler)) {}
    bool keeps_utf8(int32_t token) const;

    const llama_vocab* vocab_;
    llama_sampler_ptr sampler_;
    std::string character_;          // bytes of the last character if it is incomplete
    mutable bool is_stuck_ = false;  // true after an error or a call that took too long; nothing is allowed any more
};

}  // namespace cake
