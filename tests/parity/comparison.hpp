#pragma once

#include <span>
#include <string>
#include <vector>

#include "cake/engine.hpp"

namespace cake::test {

/// Logits of the full cache after every token, [n_vocab, n].
std::vector<float> full_logits(const std::string& path, std::span<const Token> tokens, const EngineOptions& options,
                               const std::string& cache_type);

/// Compares our logits with those of llama.cpp, with the weights of both in the same layout. With ggml's attention and
/// f16 K/V, the mean KL must be below `most_kl`. Our kernels round differently and are compared with f32 K/V. Products
/// with quantised weights round every activation to 8 bits, which amplifies any rounding. The tolerance for our kernels
/// is therefore llama.cpp's own difference between f16 and f32 K/V, if that is larger than `most_kl`. With repacked
/// weights, the text is also read in segments and then token by token.
void expect_parity(const std::string& path, std::span<const Token> tokens, double most_kl, bool repack);

}  // namespace cake::test
