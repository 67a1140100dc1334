#pragma once

#include <cstdint>
#include <vector>

namespace cake {

/// Added to a token's logit.
struct LogitBias {
    int32_t token = 0;
    float bias = 0;
};

/// How the next token is drawn, in llama.cpp's names, order and defaults. Temperature 0 takes the likeliest.
struct SamplingOptions {
    float temperature = 0.8F;
    int32_t top_k = 40;  // 0: all
    float top_p = 0.95F;
    float min_p = 0.05F;
    float frequency_penalty = 0;  // taken off a token's logit for each time it was drawn
    float presence_penalty = 0;   // once, where it was drawn
    std::vector<LogitBias> logit_bias{};
    uint32_t seed = 0xFFFFFFFF;  // 0xFFFFFFFF: a different one each time
};

}  // namespace cake
