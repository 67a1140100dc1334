#pragma once

#include <llama-cpp.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "cake/error.hpp"
#include "cake/sampling.hpp"
#include "text/restriction.hpp"
#include "text/vocabulary.hpp"

namespace cake {

/// Options with which no token that ends the text is drawn: as in llama.cpp, every end-of-generation token gets a bias
/// of minus infinity.
SamplingOptions without_end(SamplingOptions options, const Vocabulary& vocabulary);

struct TokenProbability {
    int32_t token = 0;
    double probability = 0;
};

/// Draws tokens from logits with libllama's chain of samplers.
class Sampler {
  public:
    /// `n_vocab`: number of logits, which may be larger than the number of tokens in the vocabulary. `restriction`:
    /// null or what the text must keep to.
    Sampler(const SamplingOptions& options, const Vocabulary& vocabulary, int32_t n_vocab,
            std::unique_ptr<Restriction> restriction = nullptr);

    /// `logits`: [n_vocab]. If the restriction only allows the text to end, a token that ends it is drawn, even if
    /// without_end() excluded it. Fails if the restriction fails or if no token is possible.
    /// `restricts_first`: what the restriction forbids is excluded before a token is drawn, so that probabilities() are
    /// those among the allowed tokens; this takes more time.
    Result<int32_t> sample(std::span<const float> logits, bool restricts_first = false);

    /// Probabilities that the token sampled last was drawn with: its own first, then those of the `n` likeliest tokens,
    /// as far as they were possible.
    std::vector<TokenProbability> probabilities(size_t n) const;

  private:
    void add(llama_sampler* sampler);
    void add_biases(const SamplingOptions& options, int32_t n_vocab);
    void add_step(SamplerStep step, const SamplingOptions& options, const Vocabulary& vocabulary, int32_t n_vocab);
    void add_penalties(const SamplingOptions& options, int32_t n_vocab);
    void add_dry(const SamplingOptions& options, const Vocabulary& vocabulary);
    llama_token_data_array candidates_of(std::span<const float> logits);
    /// Draws a token; none if no token is possible.
    std::optional<int32_t> draw(llama_token_data_array& candidates);

    llama_sampler_ptr chain_;
    std::unique_ptr<Restriction> restriction_;
    std::vector<llama_token_data> candidates_;
    size_t n_left_ = 0;    // candidates that the chain left the last time
    int32_t drawn_ = -1;   // token sampled last
    bool greedy_ = false;  // only the most likely token is possible
};

}  // namespace cake
