#pragma once

#include <ggml-backend.h>
#include <hwy/targets.h>

namespace cake::test {

/// Makes the kernels compute products in float32 on every processor. With q8_0, those with bfloat16 products use them.
inline void use_float32_products() {
    hwy::DisableTargets(HWY_AVX3_ZEN4 | HWY_AVX3_SPR | HWY_AVX10_2 | HWY_NEON_BF16);
}

/// Buffer type for plain CPU memory. Loads the backends at the first call.
inline ggml_backend_buffer_type_t cpu_buffer_type() {
    static const auto type = [] {
        ggml_backend_load_all();
        return ggml_backend_dev_buffer_type(ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU));
    }();
    return type;
}

}  // namespace cake::test
