#pragma once

#include "engine/engine_state.hpp"
#include "engine/hidden_states.hpp"

namespace cake {

/// Computes a recurrent layer for the tokens [begin, end) of one sequence, in place of their `hidden` states. All
/// tokens change `state`, f32 [n_state], but only those from `output_begin` on go through the feed-forward.
Result<void> run_recurrent_layer(GraphRunner& runner, const EngineState& engine, int32_t layer,
                                 const HiddenStates& hidden, int64_t begin, int64_t end, int64_t output_begin,
                                 ggml_tensor* state);

}  // namespace cake
