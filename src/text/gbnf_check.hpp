#pragma once

#include "cake/error.hpp"
#include "text/gbnf.hpp"

namespace cake {

/// Refuses rules that can never end, rules that begin with themselves (left recursion), and rules that allow so many
/// ways to parse a text that libllama, which follows all of them, would hang. The last check tries likely texts; it is
/// not a proof.
Result<void> check_rules(const Bnf& bnf);

}  // namespace cake
