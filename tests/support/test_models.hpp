#pragma once

#include <string>
#include <vector>

#include "cake/engine.hpp"

namespace cake::test {

/// A model that the suite's set-up made: "f32", "q8_0", "q4_0", "tied", "rope_freqs", "bias".
inline std::string model_path(const std::string& name) {
    return std::string(CAKE_TEST_MODELS) + "/" + name + ".gguf";
}

/// English enough for a tokenizer; as many tokens as are asked for.
std::vector<Token> sample_tokens(const Engine& engine, size_t n);

}  // namespace cake::test
