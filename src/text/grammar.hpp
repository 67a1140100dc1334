#pragma once

#include <llama-cpp.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "cake/error.hpp"

namespace cake {

/// How large a grammar may be; by itself what is accepted from outside.
struct GrammarLimits {
    size_t n_bytes = size_t{64} << 10U;
    size_t n_rules = 2000;
};
inline constexpr GrammarLimits kOwnGrammar{.n_bytes = size_t{256} << 10U, .n_rules = 20000};

/// A GBNF text that libllama can read and apply: it trusts its grammars, and hangs or aborts on some.
class CheckedGrammar {
  public:
    const std::string& gbnf() const { return gbnf_; }

  private:
    explicit CheckedGrammar(std::string gbnf) : gbnf_(std::move(gbnf)) {}
    friend Result<CheckedGrammar> check_grammar(std::string gbnf, const GrammarLimits& limits);

    std::string gbnf_;
};

/// Grammars in which the number of readings of a text grows are looked for by trying; see rule_of_many_readings.
Result<CheckedGrammar> check_grammar(std::string gbnf, const GrammarLimits& limits = {});

/// A text in UTF-8 being written within a grammar, token by token.
class Grammar {
  public:
    /// At the beginning of a text. Its rule `root` is where it begins.
    static Result<Grammar> create(const llama_vocab* vocab, const CheckedGrammar& grammar);

    /// Whether the text can go on with the token; with one that ends a generation, whether it may end.
    bool allows(int32_t token) const;

    /// A token that ends the text, where it may end here.
    std::optional<int32_t> end() const;

    /// The tokens that the text cannot go on with become impossible.
    void restrict(llama_token_data_array& candidates) const;

    /// The text goes on with the token. After an error nothing is allowed any more.
    Result<void> accept(int32_t token);

  private:
    Grammar(const llama_vocab* vocab, llama_sampler_ptr sampler) : vocab_(vocab), sampler_(std::move(sampler)) {}
    bool keeps_utf8(int32_t token) const;

    const llama_vocab* vocab_;
    llama_sampler_ptr sampler_;
    std::string character_;          // as much as is written of the last one, where it is not whole
    mutable bool is_stuck_ = false;  // an error, or a call that took too long
};

}  // namespace cake
