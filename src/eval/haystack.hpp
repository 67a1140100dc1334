#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

#include "cake/error.hpp"
#include "eval/filler.hpp"
#include "eval/puzzle.hpp"
#include "eval/sample.hpp"

namespace cake::eval {

/// Counts tokens as a model's tokenizer and chat template produce them.
struct TokenCounter {
    std::function<int64_t(std::string_view)> count;  // number of tokens of a text, without special tokens
    int64_t n_first = 0;     // number of tokens that the model expects before every text: 0 or 1
    int64_t n_template = 0;  // number of tokens that the chat template adds to a prompt
};

/// Hides a puzzle's needles in filler text. Prompt and answer together take `n_tokens` tokens, or up to one sentence
/// less. `depth` (0 to 1) is the relative position of the needle asked for, if there is only one; all other needles are
/// placed at random. If `depth` is negative, all needles are. Fails if the needles do not fit.
Result<Sample> bury(const Puzzle& puzzle, const Filler& filler, int64_t n_tokens, double depth, Random& random,
                    const TokenCounter& counter);

}  // namespace cake::eval
