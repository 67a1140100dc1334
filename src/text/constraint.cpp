#include "cake/constraint.hpp"

#include <utility>

#include "text/grammar.hpp"
#include "text/guide.hpp"

namespace cake {

Constraint::Constraint(std::shared_ptr<const ConstraintRule> rule) : rule_(std::move(rule)) {}

Result<Constraint> Constraint::of(Result<std::shared_ptr<const ConstraintRule>> rule) {
    if (!rule) return std::unexpected(rule.error());
    return Constraint(std::move(*rule));
}

Result<Constraint> Constraint::gbnf(std::string grammar) {
    return of(make_gbnf_rule(std::move(grammar)));
}

Result<Constraint> Constraint::lark(std::string grammar) {
    return of(make_guide_rule(GuideKind::lark, std::move(grammar)));
}

Result<Constraint> Constraint::regex(std::string expression) {
    return of(make_guide_rule(GuideKind::regex, std::move(expression)));
}

Result<Constraint> Constraint::json_schema(std::string schema, bool lenient) {
    return of(make_guide_rule(GuideKind::json_schema, std::move(schema), lenient));
}

Result<Constraint> Constraint::json_object() {
    static const auto any = json_schema(R"({"type": "object"})");  // compiled once for each vocabulary
    return any;
}

const std::vector<std::string>& Constraint::not_enforced() const {
    return rule_->not_enforced();
}

}  // namespace cake
