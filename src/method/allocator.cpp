#include "method/allocator.hpp"

#include <algorithm>
#include <cassert>
#include <cmath>

namespace cake {

namespace {

double uniform(int32_t /*layer*/, int32_t /*n_layer*/, double /*preference*/) {
    return 1;
}

/// PyramidKV: weights fall linearly with depth, to 1/20 of the average in the last layer.
double pyramid(int32_t layer, int32_t n_layer, double /*preference*/) {
    constexpr double kBeta = 20;
    constexpr double kLast = 1 / kBeta;
    constexpr double kFirst = 2 - kLast;
    if (n_layer <= 1) return 1;
    return kFirst - (kFirst - kLast) * layer / (n_layer - 1);
}

double by_preference(int32_t /*layer*/, int32_t /*n_layer*/, double preference) {
    return preference;
}

constexpr std::array<std::string_view, 2> kPreferenceOptions = {"tau1", "tau2"};

constexpr Allocator kAllocators[] = {
    {"uniform", "the same for every layer", uniform, false},
    {"pyramid", "falling linearly with depth (PyramidKV)", pyramid, false},
    {"preference", "by how widely and how changeably a layer attends (CAKE)", by_preference, true, HeadSplit::uniform,
     kPreferenceOptions},
    {"adaptive-heads", "the same for every layer, by score among its heads (AdaKV)", uniform, false,
     HeadSplit::adaptive},
    {"preference-heads", "by preference, and by score among the heads", by_preference, true, HeadSplit::adaptive,
     kPreferenceOptions},
};

/// Water-fills the layers with weight(l) > 0 in real numbers. Returns the part of `total` that they cannot hold.
template <typename Weight>
double fill(double total, size_t n_layer, Weight weight, std::span<const int32_t> caps, std::span<double> levels) {
    std::vector<bool> full(n_layer, false);
    for (;;) {
        double left = total;
        double sum = 0;
        for (size_t l = 0; l < n_layer; l++) {
            if (full[l])
                left -= caps[l];
            else
                sum += weight(l);
        }
        if (sum <= 0) return left;
        // A layer that is overfilled at this level is also full at the final level, which is higher.
        bool changed = false;
        for (size_t l = 0; l < n_layer; l++) {
            if (full[l] || weight(l) <= 0) continue;
            levels[l] = left * (weight(l) / sum);
            if (levels[l] >= caps[l]) {
                levels[l] = caps[l];
                full[l] = true;
                changed = true;
            }
        }
        if (!changed) return 0;
    }
}

}  // namespace

std::span<const Allocator> allocators() {
    return kAllocators;
}

const Allocator* find_allocator(std::string_view name) {
    const auto* found = std::ranges::find(kAllocators, name, &Allocator::name);
    return found == std::end(kAllocators) ? nullptr : found;
}

std::vector<int32_t> water_fill(int64_t total, std::span<const double> weights, std::span<const int32_t> caps) {
    assert(weights.size() == caps.size());
    const size_t n_layer = weights.size();
    std::vector<double> levels(n_layer, 0.0);
    const double left = fill(
        static_cast<double>(std::max<int64_t>(total, 0)), n_layer, [&](size_t l) { return weights[l]; }, caps, levels);
    if (left > 0) fill(left, n_layer, [&](size_t l) { return weights[l] > 0 ? 0.0 : 1.0; }, caps, levels);

    // kRounding rounds up levels that floating point left just below a whole number. Summed over all layers it is less
    // than one token, so the budgets cannot exceed the total.
    constexpr double kRounding = 1e-6;
    std::vector<int32_t> budgets(n_layer);
    for (size_t l = 0; l < n_layer; l++) {
        budgets[l] = std::min(caps[l], static_cast<int32_t>(std::floor(levels[l] + kRounding)));
    }
    return budgets;
}

}  // namespace cake
