#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

#include "eval/filler.hpp"
#include "eval/puzzle.hpp"
#include "eval/sample.hpp"

namespace cake::eval {

/// How many tokens a text takes.
using CountTokens = std::function<int64_t(std::string_view)>;

/// Hides a puzzle's needles in filler, so that the whole prompt takes `n_tokens` or a sentence less. `depth`, 0 to 1,
/// is where the only needle that is asked for stands; negative: all stand at random.
Sample bury(const Puzzle& puzzle, const Filler& filler, int64_t n_tokens, double depth, Random& random,
            const CountTokens& count);

}  // namespace cake::eval
