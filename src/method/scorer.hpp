#pragma once

#include <string_view>
#include <vector>

#include "cake/policy.hpp"

namespace cake {

/// The scorers that there are: those of the table, then those of add_scorer(), which stay where they are for ever.
std::vector<const Scorer*> scorers();

/// Null where there is none of that name.
const Scorer* find_scorer(std::string_view name);

}  // namespace cake
