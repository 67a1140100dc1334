#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "text/gbnf.hpp"

namespace cake {

/// A rule some text of which has more than `most` readings at once, or is read on in very many ways within the length
/// of a token, as far as trying finds one in about 20 ms: texts are written character by character, each time with the
/// one that leaves most, from the root and from other rules. For rules of which none begins with itself.
std::optional<uint32_t> rule_of_many_readings(const Bnf& bnf, size_t most);

}  // namespace cake
