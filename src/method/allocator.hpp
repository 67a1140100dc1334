#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "method/selection.hpp"

namespace cake {

/// What an allocator knows about a layer.
struct LayerSignals {
    int32_t index = 0;      // among the layers that share the budget
    int32_t n_layer = 1;    // number of those layers
    double preference = 0;  // CAKE; only with reads_attention
    double entropy = 0;     // score_entropy() of the layer, LAVa; only with reads_entropy
};

/// Decides how many tokens each layer and each of its KV heads keeps. The allocator returns a weight for every layer;
/// the budgets are the water-filling of the total by these weights, unless the heads of all layers compete (`model`).
struct Allocator {
    std::string_view name;
    std::string_view summary;
    double (*weight)(const LayerSignals& layer);
    HeadRule heads{};
    std::array<std::string_view, 2> options{};  // members of SequenceOptions that affect the weights; "": none
    bool reads_attention = false;               // needs the preference and the statistics for it
    bool reads_entropy = false;

    bool is_per_head() const { return heads.split != HeadSplit::uniform; }
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
