#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

#include "cake/error.hpp"
#include "eval/filler.hpp"
#include "eval/puzzle.hpp"
#include "eval/sample.hpp"

namespace cake::eval {

/// How long texts are for a model.
struct TokenCounter {
    std::function<int64_t(std::string_view)> count;  // of a text alone
    int64_t n_first = 0;                             // that stand before every text
    int64_t n_template = 0;                          // that a chat template puts around a prompt
};

/// Hides a puzzle's needles in filler, so that prompt and answer take `n_tokens` or a sentence less. `depth`, 0 to 1,
/// is where the only needle that is asked for stands; negative: all stand at random. Fails where there is no room for
/// the needles.
Result<Sample> bury(const Puzzle& puzzle, const Filler& filler, int64_t n_tokens, double depth, Random& random,
                    const TokenCounter& counter);

}  // namespace cake::eval
