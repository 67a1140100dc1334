#pragma once

#include "cake/error.hpp"
#include "text/gbnf.hpp"

namespace cake {

/// Refuses rules that can never end, that begin with themselves, or that leave so many ways to read one text that
/// libllama, which follows each of them, would not come back. The last is tried out on the likeliest texts, not proved.
Result<void> check_rules(const Bnf& bnf);

}  // namespace cake
