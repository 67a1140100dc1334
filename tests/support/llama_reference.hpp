#pragma once

#include <ggml.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace cake::test {

/// llama.cpp's logits after each token, [n_vocab, n], on the CPU.
std::vector<float> llama_logits(const std::string& model, std::span<const int32_t> tokens,
                                ggml_type cache_type = GGML_TYPE_F16);

/// llama.cpp's logits after `next`, when tokens [from, to) were dropped from every layer's cache after reading
/// `tokens`; f16 K/V.
std::vector<float> llama_logits_without(const std::string& model, std::span<const int32_t> tokens, int32_t from,
                                        int32_t to, int32_t next);

/// Mean over the tokens of KL(reference || other), in nats; both are logits, [n_vocab, n].
double mean_kl(std::span<const float> reference, std::span<const float> other, size_t n_vocab);

/// The largest amount, over the tokens, by which the other's likeliest successor is less likely to the reference than
/// the reference's own, as a difference of logits: 0 where greedy choices agree everywhere.
double greedy_regret(std::span<const float> reference, std::span<const float> other, size_t n_vocab);

}  // namespace cake::test
