#pragma once

#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "cake/error.hpp"

namespace cake::eval {

using Random = std::mt19937_64;

/// A number from 0 to n - 1.
size_t draw(Random& random, size_t n);

/// Gives the next sentence of the text that needles are hidden in.
using Filler = std::function<std::string()>;

/// Five short sentences over and over, RULER's.
Filler repeated_filler();
/// Sentences about a village, put together at random: hardly one comes twice.
Filler generated_filler(Random& random);
/// The sentences of a text, from a random one on, and around again.
Filler text_filler(const std::vector<std::string>& sentences, Random& random);

/// Cuts a text at the ends of its sentences, and one of more than 300 bytes where it can be; white space becomes one
/// space.
std::vector<std::string> split_sentences(std::string_view text);

}  // namespace cake::eval
