#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "text/gbnf.hpp"

namespace cake {

/// Looks for a rule with a text that has more than `most` parses at once, or very many ways to parse it within the
/// length of a token. It tries texts from the root and from other rules for about 20 ms, always adding the character
/// that leaves the most. No rule may begin with itself.
std::optional<uint32_t> rule_of_many_readings(const Bnf& bnf, size_t most);

}  // namespace cake
