#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cake/policy.hpp"

namespace cake {

/// The order in which CriticalKV keeps the keys of a KV head, best first. With a budget of n keys it keeps the best n /
/// 2 by `scores`, but at least the best `n_safe`, and of the others those with the largest product of score and output
/// norm (arXiv 2502.03805). A larger budget keeps all that a smaller one keeps, so that this is one order for all
/// budgets. `scores`, `norms`: [n]; a score of infinity belongs to the window, which comes first.
std::vector<int32_t> critical_order(std::span<const float> scores, std::span<const float> norms, int32_t n_safe);

/// Gives the i-th highest of `scores` to the i-th key of `order`. A KV head then competes with others as it does with
/// the scores themselves, but keeps its keys in this order.
std::vector<float> reassigned(std::span<const float> scores, std::span<const int32_t> order);

/// A scorer named "criticalkv+NAME" that ranks the keys of `base` in CriticalKV's order.
Scorer critical_scorer(const Scorer& base);

}  // namespace cake
