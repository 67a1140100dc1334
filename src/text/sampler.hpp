#pragma once

#include <llama-cpp.h>

#include <cstdint>
#include <span>
#include <vector>

#include "cake/sampling.hpp"

namespace cake {

/// Draws tokens from logits through libllama's chain of samplers.
class Sampler {
  public:
    explicit Sampler(const SamplingOptions& options);

    /// `logits` is [n_vocab].
    int32_t sample(std::span<const float> logits);

  private:
    llama_sampler_ptr chain_;
    std::vector<llama_token_data> candidates_;
};

}  // namespace cake
