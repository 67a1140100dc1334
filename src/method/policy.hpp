#pragma once

#include <span>
#include <string>
#include <string_view>

#include "cake/error.hpp"
#include "method/allocator.hpp"
#include "method/scorer.hpp"

namespace cake {

/// A named pair of a scorer (which tokens) and an allocator (how many). Both are null for `full`, which evicts nothing.
struct Policy {
    std::string_view name;
    std::string_view summary;
    const Scorer* scorer = nullptr;
    const Allocator* allocator = nullptr;
    const Scorer* decode_scorer = nullptr;  // scores the tokens while an answer is generated

    bool evicts() const { return scorer != nullptr; }
};

std::span<const Policy> policies();

/// Returns null if there is none of that name.
const Policy* find_policy(std::string_view name);

/// The names with which a user selects a policy.
struct PolicyNames {
    std::string policy;     // name of a policy, or "SCORER:ALLOCATOR"
    std::string scorer;     // replaces the scorer of the policy unless empty
    std::string allocator;  // replaces its allocator unless empty
};

/// Fails if a name is unknown, listing the valid names, or if only the scorer or only the allocator is given for a
/// policy that evicts nothing.
Result<Policy> resolve_policy(const PolicyNames& names);

}  // namespace cake
