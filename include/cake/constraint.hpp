#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "cake/error.hpp"
#include "cake/export.hpp"

namespace cake {

class CheckedGrammar;

/// What a generated text must be: at every token, only those that can still lead to such a text are drawn. Checked when
/// it is made, and cheap to copy.
class CAKE_API Constraint {
  public:
    /// Texts of a grammar in GBNF, the notation of llama.cpp, from its rule `root`. At most 64 KiB and 2,000 rules.
    static Result<Constraint> gbnf(std::string grammar);
    /// JSON texts that a JSON schema allows. A keyword that cannot be enforced, such as `pattern`, is an error that
    /// names its position.
    static Result<Constraint> json_schema(std::string_view schema);
    /// Any JSON object.
    static Constraint json_object();

    /// For use inside the library.
    const CheckedGrammar& grammar() const { return *grammar_; }

  private:
    explicit Constraint(CheckedGrammar grammar);

    std::shared_ptr<const CheckedGrammar> grammar_;
};

}  // namespace cake
