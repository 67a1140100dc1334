#pragma once

#include <llama-cpp.h>

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "cake/error.hpp"
#include "cake/sampling.hpp"
#include "text/grammar.hpp"
#include "text/vocabulary.hpp"

namespace cake {

/// Options with which no token that ends the text is drawn: as in llama.cpp, every end-of-generation token gets a bias
/// of minus infinity.
SamplingOptions without_end(SamplingOptions options, const Vocabulary& vocabulary);

/// Draws tokens from logits with libllama's chain of samplers.
class Sampler {
  public:
    Sampler(const SamplingOptions& options, int32_t n_vocab);
    /// Creates a sampler whose text must match `grammar`, if it is not null. Fails if libllama cannot read the grammar.
    /// `n_vocab`: number of logits, which may be larger than the number of tokens in the vocabulary.
    static Result<Sampler> create(const SamplingOptions& options, int32_t n_vocab, const Vocabulary& vocabulary,
                                  const CheckedGrammar* grammar = nullptr);

    /// `logits`: [n_vocab]. If the grammar only allows the text to end, a token that ends it is drawn, even if
    /// without_end() excluded it. Fails if the grammar fails or if no token is possible.
    Result<int32_t> sample(std::span<const float> logits);

  private:
    llama_token_data_array candidates_of(std::span<const float> logits);
    /// Draws a token; none if no token is possible.
    std::optional<int32_t> draw(llama_token_data_array& candidates);

    llama_sampler_ptr chain_;
    std::optional<Grammar> grammar_;
    std::vector<llama_token_data> candidates_;
};

}  // namespace cake
