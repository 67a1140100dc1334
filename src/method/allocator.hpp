#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "method/selection.hpp"

namespace cake {

/// Decides how many tokens each layer and each of its KV heads keeps. The allocator returns a weight for every layer;
/// the budgets are the water-filling of the total by these weights.
struct Allocator {
    std::string_view name;
    std::string_view summary;
    double (*weight)(int32_t layer, int32_t n_layer, double preference);
    bool reads_attention;  // true if it needs the preference and the statistics for it
    HeadSplit heads = HeadSplit::uniform;
    std::array<std::string_view, 2> options{};  // members of SequenceOptions that affect the weights; "": none
};

std::span<const Allocator> allocators();

/// Returns null if there is none of that name.
const Allocator* find_allocator(std::string_view name);

/// Divides `total` tokens: layer l gets min(caps[l], lambda * weights[l]) rounded down, with the single lambda for
/// which the unrounded sum is min(total, sum of caps) (docs/how-it-works.md, Cache Allocator). Layers of weight 0 share
/// equally what the others cannot hold. The sum never exceeds `total`, at most one token per layer stays unused, and no
/// budget rises when a layer joins.
std::vector<int32_t> water_fill(int64_t total, std::span<const double> weights, std::span<const int32_t> caps);

}  // namespace cake
