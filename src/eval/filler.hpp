#pragma once

#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "cake/error.hpp"

namespace cake::eval {

using Random = std::mt19937_64;

/// Random number from 0 to n - 1.
size_t draw(Random& random, size_t n);

/// Returns the next sentence of the filler text in which needles are hidden.
using Filler = std::function<std::string()>;

/// RULER's five short sentences, repeated.
Filler repeated_filler();
/// Random sentences about a village. Repetitions are rare.
Filler generated_filler(Random& random);
/// The given sentences in order, starting at a random one and wrapping around. `sentences` must outlive the filler.
Filler text_filler(const std::vector<std::string>& sentences, Random& random);

/// Splits a text into sentences and collapses white space to single spaces. A long sentence is split at the first white
/// space after 300 bytes, or between two characters if there is none within 600 bytes.
std::vector<std::string> split_sentences(std::string_view text);

}  // namespace cake::eval
