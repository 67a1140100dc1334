#pragma once

#include <gtest/gtest.h>

#include <span>
#include <string>
#include <vector>

#include "cake/engine.hpp"

namespace cake::test {

/// Path of a model that the set-up of the test suite has made, such as "f32", "q8_0", "tied" or "bias".
inline std::string model_path(const std::string& name) {
    return std::string(CAKE_TEST_MODELS) + "/" + name + ".gguf";
}

/// Names of the models that represent a model family or a variant of one.
std::vector<std::string> family_names();
/// Name of a parameterised test over these models.
std::string family_test_name(const testing::TestParamInfo<std::string>& instance);

/// Loads one of these models, on the devices that CAKE_TEST_DEVICE names, if it is set. This function and the following
/// ones throw on any error.
Engine load(const std::string& name, int32_t n_batch = 512);
Sequence start(const Engine& engine, const SequenceOptions& options);
void append(Sequence& sequence, std::span<const Token> tokens);
/// Generates `n` tokens greedily, ignoring the end of text.
std::vector<Token> generate(Sequence& sequence, int64_t n);

/// A full cache with f32 K/V, so that different ways to compute the same result differ only by float32 rounding. With
/// f16 K/V, ggml also sums in half precision.
SequenceOptions full(int64_t max_tokens);

/// The first `n` tokens of an English-like text.
std::vector<Token> sample_tokens(const Engine& engine, size_t n);

}  // namespace cake::test
