#pragma once

#include <gtest/gtest.h>

#include <span>
#include <string>
#include <vector>

#include "cake/engine.hpp"

namespace cake::test {

/// A model that the suite's set-up made: "f32", "q8_0", "q4_0", "tied", "rope_freqs", "bias".
inline std::string model_path(const std::string& name) {
    return std::string(CAKE_TEST_MODELS) + "/" + name + ".gguf";
}

/// Those of them that stand for a family of models, or for what a family has beside that.
std::vector<std::string> family_names();
/// What a test of one is called.
std::string family_test_name(const testing::TestParamInfo<std::string>& instance);

/// One of them, ready; what follows throws where anything goes wrong that a test does not ask about.
Engine load(const std::string& name, int32_t n_batch = 512);
Sequence start(const Engine& engine, const SequenceOptions& options);
void append(Sequence& sequence, std::span<const Token> tokens);
/// The likeliest tokens, past the end of text too.
std::vector<Token> generate(Sequence& sequence, int64_t n);

/// English enough for a tokenizer; as many tokens as are asked for.
std::vector<Token> sample_tokens(const Engine& engine, size_t n);

}  // namespace cake::test
