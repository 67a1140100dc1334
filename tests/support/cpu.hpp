#pragma once

#include <ggml-backend.h>

namespace cake::test {

/// Buffer type for plain CPU memory. Loads the backends at the first call.
inline ggml_backend_buffer_type_t cpu_buffer_type() {
    static const auto type = [] {
        ggml_backend_load_all();
        return ggml_backend_dev_buffer_type(ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU));
    }();
    return type;
}

}  // namespace cake::test
