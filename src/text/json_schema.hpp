#pragma once

#include <string_view>

#include "cake/error.hpp"
#include "text/grammar.hpp"

namespace cake {

/// A grammar (GBNF, from the rule `root`) of the JSON texts that a JSON schema allows, one way of writing each: the
/// properties in the order of the schema, white space within bounds, numbers of at most 20 digits. It allows nothing
/// that the schema forbids, and leaves out what a schema allows without saying so: properties beside those that it
/// lists (unless it has additionalProperties), items behind prefixItems (unless it has items), and values of other
/// types than its keywords speak of.
///
/// What it would have to leave unchecked, such as `pattern`, is an error that says where it stands. So is a schema of
/// more than 64 KiB, 32 levels, 1,000 properties or 1,000 values of enum; and lengths and numbers of items above 256.
Result<CheckedGrammar> grammar_of_schema(std::string_view json);

const CheckedGrammar& grammar_of_any_json_object();

}  // namespace cake
