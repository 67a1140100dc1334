#pragma once

#include <span>
#include <string_view>

#include "method/allocator.hpp"
#include "method/scorer.hpp"

namespace cake {

/// A named pair of a scorer (which tokens) and an allocator (how many); both null in `full`, which evicts nothing.
struct Policy {
    std::string_view name;
    std::string_view summary;
    const Scorer* scorer;
    const Allocator* allocator;
};

std::span<const Policy> policies();

/// Null where there is none of that name.
const Policy* find_policy(std::string_view name);

}  // namespace cake
