#pragma once

#include <string_view>
#include <vector>

#include "cake/policy.hpp"

namespace cake {

/// All scorers: the built-in ones, then those added with add_scorer(). The pointers stay valid.
std::vector<const Scorer*> scorers();

/// Returns null if there is none of that name.
const Scorer* find_scorer(std::string_view name);

}  // namespace cake
