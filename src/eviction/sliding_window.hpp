#pragma once

#include "eviction/layer_keys.hpp"
#include "eviction/managed_cache.hpp"

namespace cake {

/// Copies the tokens in a layer's sliding window from the staging layer into the sequence's cache.
void keep_window(const ManagedCache& managed, int32_t layer, const LayerKeys& keys);
/// Makes room for the next token in a sliding layer by dropping the tokens that no later token attends to.
void slide_window(const ManagedCache& managed, int32_t layer);

}  // namespace cake
