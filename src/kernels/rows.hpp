#pragma once

#include <ggml.h>

#include <cstddef>
#include <cstdint>

namespace cake {

/// Keys or values as stored in a cache: f32, f16, bf16, q8_0 or q4_0.
struct Rows {
    const void* data = nullptr;  // [dim, n_slots]
    size_t row_bytes = 0;
    ggml_type type = GGML_TYPE_F32;
    int32_t dim = 0;
};

/// The slots of one KV head of a layer, oldest token first.
struct HeadSlots {
    int64_t begin = 0;
    int64_t length = 0;
};

/// Queries or results of attention: element (d, head, i) is `data[d + head * head_stride + i * stride]`.
template <typename T>
struct HeadVectors {
    T* data = nullptr;
    size_t head_stride = 0;
    size_t stride = 0;
};

/// Type in which the products of attention are computed; sums are always in float32. `bf16` is twice as fast on
/// processors with bfloat16 products; on others it is the same as `f32`.
enum class Products { f32, bf16 };

}  // namespace cake
