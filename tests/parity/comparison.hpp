#pragma once

#include <span>
#include <string>
#include <vector>

#include "cake/engine.hpp"

namespace cake::test {

/// Logits of the full cache after every token.
std::vector<float> full_logits(const std::string& path, std::span<const Token> tokens, const EngineOptions& options,
                               const std::string& cache_type);

/// Expects llama.cpp's logits, its weights in the same layouts as ours. With ggml's attention everything is its
/// arithmetic. Our kernels round otherwise, and quantised weights, whose products round every activation to 8 bits,
/// make of any rounding what llama.cpp itself makes of half-precision K/V: so much they may differ from it in float32,
/// or where that is less, no more than `most_kl`.
void expect_parity(const std::string& path, std::span<const Token> tokens, double most_kl, bool repack);

}  // namespace cake::test
