#include "cake/constraint.hpp"

#include <utility>

#include "text/grammar.hpp"
#include "text/json_schema.hpp"

namespace cake {

Constraint::Constraint(CheckedGrammar grammar) : grammar_(std::make_shared<CheckedGrammar>(std::move(grammar))) {}

Result<Constraint> Constraint::gbnf(std::string grammar) {
    auto checked = check_grammar(std::move(grammar));
    if (!checked) return std::unexpected(checked.error());
    return Constraint(std::move(*checked));
}

Result<Constraint> Constraint::json_schema(std::string_view schema) {
    auto made = grammar_of_schema(schema);
    if (!made) return std::unexpected(made.error());
    return Constraint(std::move(*made));
}

Constraint Constraint::json_object() {
    return Constraint(grammar_of_any_json_object());
}

}  // namespace cake
