#include "method/allocator.hpp"

#include <algorithm>
#include <cassert>
#include <cmath>

namespace cake {

namespace {

double uniform(const LayerSignals& /*layer*/) {
    return 1;
}

/// PyramidKV: weights fall linearly with depth, to 1/20 of the average in the last layer.
double pyramid(const LayerSignals& layer) {
    constexpr double kBeta = 20;
    constexpr double kLast = 1 / kBeta;
    constexpr double kFirst = 2 - kLast;
    if (layer.n_layer <= 1) return 1;
    return kFirst - (kFirst - kLast) * layer.index / (layer.n_layer - 1);
}

double by_preference(const LayerSignals& layer) {
    return layer.preference;
}

double by_entropy(const LayerSignals& layer) {
    return layer.entropy;
}

constexpr std::array<std::string_view, 2> kPreferenceOptions = {"tau1", "tau2"};
constexpr double kSafeguard = 0.2;  // AdaKV's and LAVa's
constexpr HeadRule kAdaptive = {.split = HeadSplit::adaptive, .floor = kSafeguard};

constexpr Allocator kAllocators[] = {
    {"uniform", "the same for every layer", uniform},
    {"pyramid", "falling linearly with depth (PyramidKV)", pyramid},
    {.name = "preference",
     .summary = "by how widely and how changeably a layer attends (CAKE)",
     .weight = by_preference,
     .options = kPreferenceOptions,
     .reads_attention = true},
    {.name = "adaptive-heads",
     .summary = "the same for every layer, by score among its heads (AdaKV)",
     .weight = uniform,
     .heads = kAdaptive},
    {.name = "preference-heads",
     .summary = "by preference, and by score among the heads",
     .weight = by_preference,
     .heads = kAdaptive,
     .options = kPreferenceOptions,
     .reads_attention = true},
    {.name = "layer-top-k",
     .summary = "the same for every layer, to the highest scores of its heads (DefensiveKV)",
     .weight = uniform,
     .heads = {.split = HeadSplit::adaptive}},
    {.name = "entropy",
     .summary = "by the entropy of a layer's scores, and by count among the heads (LAVa)",
     .weight = by_entropy,
     .heads = {.split = HeadSplit::by_count, .floor = kSafeguard},
     .reads_entropy = true},
    {.name = "model-top-k",
     .summary = "to the highest scores of all heads and layers (Layer-DefensiveKV, KVzip)",
     .weight = uniform,
     .heads = {.split = HeadSplit::model}},
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
