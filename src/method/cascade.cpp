#include "method/cascade.hpp"

#include <algorithm>

#include "method/allocator.hpp"

namespace cake {

std::span<const int32_t> Cascade::join(double weight, int32_t cap, int64_t total) {
    weights_.push_back(weight);
    caps_.push_back(cap);
    auto sliced = water_fill(total, weights_, caps_);
    // Water-filling lowers every level; only the rounding of floating point could raise one, by a token.
    for (size_t l = 0; l < budgets_.size(); l++) sliced[l] = std::min(sliced[l], budgets_[l]);
    budgets_ = std::move(sliced);
    return budgets_;
}

}  // namespace cake
