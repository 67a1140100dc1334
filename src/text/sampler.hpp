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

/// Options that never draw what would end the text: every end-of-generation token gets a bias of minus infinity, as
/// llama.cpp has it.
SamplingOptions without_end(SamplingOptions options, const Vocabulary& vocabulary);

/// Draws tokens from logits through libllama's chain of samplers.
class Sampler {
  public:
    Sampler(const SamplingOptions& options, int32_t n_vocab);
    /// With a grammar that the text has to keep to. Fails if libllama cannot read it. `n_vocab`: number of logits,
    /// which may be more than the vocabulary has tokens.
    static Result<Sampler> create(const SamplingOptions& options, int32_t n_vocab, const Vocabulary& vocabulary,
                                  const std::optional<CheckedGrammar>& grammar);

    /// `logits` is [n_vocab]. Where a grammar lets nothing follow but the end, that is drawn, even without_end(). Fails
    /// only where a grammar does.
    Result<int32_t> sample(std::span<const float> logits);

  private:
    llama_token_data_array candidates_of(std::span<const float> logits);
    /// A token that is possible; none where all are not.
    std::optional<int32_t> draw(llama_token_data_array& candidates);

    llama_sampler_ptr chain_;
    std::optional<Grammar> grammar_;
    std::vector<llama_token_data> candidates_;
};

}  // namespace cake
