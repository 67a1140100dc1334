#pragma once

#include <cstdint>
#include <vector>

namespace cake {

/// A value that is added to the logit of a token.
struct LogitBias {
    int32_t token = 0;
    float bias = 0;
};

/// How the next token is drawn, with the names, the order and the defaults of llama.cpp. Temperature 0 takes the most
/// likely token.
struct SamplingOptions {
    float temperature = 0.8F;
    int32_t top_k = 40;  // 0: all
    float top_p = 0.95F;
    float min_p = 0.05F;
    float frequency_penalty = 0;  // subtracted from a token's logit for each time it was drawn
    float presence_penalty = 0;   // subtracted once if the token was drawn before
    std::vector<LogitBias> logit_bias{};
    uint32_t seed = 0xFFFFFFFF;  // 0xFFFFFFFF: a random seed
};

}  // namespace cake
