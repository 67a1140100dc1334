#pragma once

#include <cstdint>

namespace cake {

/// How the next token is drawn, in llama.cpp's names, order and defaults. Temperature 0 takes the likeliest.
struct SamplingOptions {
    float temperature = 0.8F;
    int32_t top_k = 40;  // 0: all
    float top_p = 0.95F;
    float min_p = 0.05F;
    uint32_t seed = 0xFFFFFFFF;  // 0xFFFFFFFF: a different one each time
};

}  // namespace cake
