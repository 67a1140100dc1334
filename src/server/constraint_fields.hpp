#pragma once

#include <optional>

#include "cake/constraint.hpp"
#include "server/body.hpp"

namespace cake::server {

/// Reads what the answer must be, from at most one of these fields: `response_format` (OpenAI), `grammar` and
/// `json_schema` (llama.cpp), `structured_outputs`, `guided_json`, `guided_regex`, `guided_choice` and `guided_grammar`
/// (vLLM). A grammar that begins with `%llguidance` or comes in one of vLLM's fields is in Lark, any other in GBNF.
std::optional<Constraint> read_constraint(Body& body);

/// The JSON schema to which the fields of a request that read_constraint() accepts hold the answer, if they have one.
std::optional<std::string> schema_of_answer(const Json& body);

}  // namespace cake::server
