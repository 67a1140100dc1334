#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace cake {

/// Raises `importance`, [n_keys], to the replay's attention to the keys of a chunk. `weights`: softmax attention of one
/// query head, [n_slots, n_queries], in which the chunk's keys begin at slot `first`. KVzip+ weights it by `norms` and
/// `hidden_norms`: the L2 norm of each key's value after the head's output projection, [n_keys], and of each replay
/// token's state that enters the attention, [n_queries]; KVzip leaves both empty.
void raise_to_replay(std::span<float> importance, std::span<const float> weights, size_t n_queries, size_t first,
                     std::span<const float> norms, std::span<const float> hidden_norms);

/// Norms of the values after the output projection of one query head: the L1 norm, or else the L2 norm, of W·v.
/// `values`: [head_dim, n]; `output`: [head_dim, n_embd], the head's columns of the projection, one row for each
/// element of the result. The definition that the engine's path is tested against.
std::vector<float> output_norms(std::span<const float> values, std::span<const float> output, size_t head_dim, bool l1);

}  // namespace cake
