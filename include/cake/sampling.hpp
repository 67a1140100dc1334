#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace cake {

/// A value that is added to the logit of a token.
struct LogitBias {
    int32_t token = 0;
    float bias = 0;
};

/// A step that changes or narrows down the candidates for the next token.
enum class SamplerStep { penalties, dry, top_n_sigma, top_k, typical_p, top_p, min_p, xtc, temperature };

/// How the next token is drawn, with the names, the order and the defaults of llama.cpp. Temperature 0 takes the most
/// likely token.
struct SamplingOptions {
    float temperature = 0.8F;
    float dynatemp_range = 0;     // the temperature varies by as much with the entropy; 0: off
    float dynatemp_exponent = 1;  // how entropy maps to temperature
    int32_t top_k = 40;           // 0 and less: all
    float top_p = 0.95F;
    float min_p = 0.05F;
    float typical_p = 1;          // locally typical sampling; 1: off
    float top_n_sigma = -1;       // standard deviations below the largest logit; 0 and less: off
    float xtc_probability = 0;    // chance to exclude the most likely tokens (XTC); 0: off
    float xtc_threshold = 0.1F;   // least probability of a token that XTC excludes; above 0.5: off
    int32_t min_keep = 0;         // tokens that top_p, min_p, typical_p and XTC keep at least
    float repeat_penalty = 1;     // divides the logits of tokens among the last ones; 1: off
    int32_t repeat_last_n = 64;   // how many tokens repeat_penalty looks back; 0: off, -1: all
    float frequency_penalty = 0;  // subtracted from a token's logit for each time it was drawn
    float presence_penalty = 0;   // subtracted once if the token was drawn before
    float dry_multiplier = 0;     // penalty on continuing a repetition (DRY); 0: off
    float dry_base = 1.75F;
    int32_t dry_allowed_length = 2;   // longest repetition without a penalty
    int32_t dry_penalty_last_n = -1;  // how many tokens DRY looks back; 0: off, -1: all
    std::vector<std::string> dry_sequence_breakers{"\n", ":", "\"", "*"};  // texts that end a repetition
    int32_t mirostat = 0;       // 1, 2: Mirostat and Mirostat 2.0 instead of the steps below; 0: off
    float mirostat_tau = 5;     // target entropy
    float mirostat_eta = 0.1F;  // learning rate
    std::vector<SamplerStep> samplers{SamplerStep::penalties, SamplerStep::dry,       SamplerStep::top_n_sigma,
                                      SamplerStep::top_k,     SamplerStep::typical_p, SamplerStep::top_p,
                                      SamplerStep::min_p,     SamplerStep::xtc,       SamplerStep::temperature};
    std::vector<LogitBias> logit_bias{};
    uint32_t seed = 0xFFFFFFFF;  // 0xFFFFFFFF: a random seed
};

}  // namespace cake
