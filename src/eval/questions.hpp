#pragma once

#include <cstdint>
#include <vector>

#include "eval/sample.hpp"

namespace cake::eval {

/// Asks each text that states several facts for `n_questions` of them: its own question and others, drawn by the seed.
/// Questions of a text follow one another. Samples without further facts stay as they are.
std::vector<Sample> with_more_questions(std::vector<Sample> samples, int32_t n_questions, uint64_t seed);

}  // namespace cake::eval
