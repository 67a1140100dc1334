#pragma once

#include <span>
#include <string>
#include <string_view>

#include "cake/error.hpp"
#include "method/allocator.hpp"
#include "method/scorer.hpp"

namespace cake {

/// A named pair of a scorer (which tokens) and an allocator (how many); both null in `full`, which evicts nothing.
struct Policy {
    std::string_view name;
    std::string_view summary;
    const Scorer* scorer = nullptr;
    const Allocator* allocator = nullptr;

    bool evicts() const { return scorer != nullptr; }
};

std::span<const Policy> policies();

/// Null if there is none of that name.
const Policy* find_policy(std::string_view name);

/// A policy as a user names it.
struct PolicyNames {
    std::string policy;     // of the table, or "SCORER:ALLOCATOR"
    std::string scorer;     // replaces the policy's; empty: does not
    std::string allocator;  // the same
};

/// Fails if a name is unknown, listing the names that exist, or if only half of a policy that evicts nothing is
/// replaced.
Result<Policy> resolve_policy(const PolicyNames& names);

}  // namespace cake
