#pragma once

#include <string_view>

#include "cake/error.hpp"
#include "text/grammar.hpp"

namespace cake {

/// Translates a JSON schema to a grammar (GBNF, root rule `root`) of the JSON texts that it allows. Properties are in
/// the order of the schema, white space is bounded, and numbers have at most 20 digits. The grammar allows nothing that
/// the schema forbids. It excludes what the schema allows only implicitly: properties that are not listed (without
/// additionalProperties), items after prefixItems (without items), and values of types to which none of the schema's
/// keywords apply.
///
/// A keyword that the grammar cannot check, such as `pattern`, is an error that names its position. Limits: 64 KiB, 32
/// levels, 1,000 properties, 1,000 enum values, and 256 for lengths and numbers of items.
Result<CheckedGrammar> grammar_of_schema(std::string_view json);

const CheckedGrammar& grammar_of_any_json_object();

}  // namespace cake
