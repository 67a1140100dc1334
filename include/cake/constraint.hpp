#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cake/error.hpp"
#include "cake/export.hpp"

namespace cake {

class ConstraintRule;

/// What a text must be: at every token, only those that can still lead to such a text are drawn. Checked when it is
/// made, and cheap to copy. Constraints other than GBNF are enforced by llguidance; a build without the bridge
/// (CAKE_BRIDGE) refuses them.
class CAKE_API Constraint {
  public:
    /// Texts of a grammar in GBNF, the notation of llama.cpp, from its rule `root`. At most 64 KiB and 2,000 rules.
    static Result<Constraint> gbnf(std::string grammar);
    /// Texts of a grammar in Lark, in the variant of llguidance, from its rule `start`.
    static Result<Constraint> lark(std::string grammar);
    /// Texts that match a regular expression as a whole, without look-around and back references.
    static Result<Constraint> regex(std::string expression);
    /// JSON texts that a JSON schema allows, with the properties in the order of the schema. A keyword that cannot be
    /// enforced, such as `not`, is an error that names it; if `lenient`, it is ignored, and not_enforced() names it.
    static Result<Constraint> json_schema(std::string schema, bool lenient = false);
    /// Any JSON object.
    static Result<Constraint> json_object();

    /// Keywords of a lenient JSON schema that are ignored.
    const std::vector<std::string>& not_enforced() const;

    /// For use inside the library.
    const ConstraintRule& rule() const { return *rule_; }
    static Result<Constraint> of(Result<std::shared_ptr<const ConstraintRule>> rule);

  private:
    explicit Constraint(std::shared_ptr<const ConstraintRule> rule);

    std::shared_ptr<const ConstraintRule> rule_;
};

}  // namespace cake
