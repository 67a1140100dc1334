#include "method/cascade.hpp"

#include <algorithm>

#include "method/allocator.hpp"

namespace cake {

std::span<const int32_t> Cascade::join(double weight, int32_t cap, int64_t total) {
    weights_.push_back(weight);
    caps_.push_back(cap);
    auto sliced = water_fill(total, weights_, caps_);
    // Water-filling only lowers levels; floating-point rounding alone could raise a budget, by one token.
    for (size_t l = 0; l < budgets_.size(); l++) sliced[l] = std::min(sliced[l], budgets_[l]);
    budgets_ = std::move(sliced);
    return budgets_;
}

}  // namespace cake
