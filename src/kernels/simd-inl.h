// Code that the kernels share, for one instruction set. Included once for each of them; see Highway's foreach_target.h.
#if defined(CAKE_KERNELS_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CAKE_KERNELS_SIMD_INL_H_
#undef CAKE_KERNELS_SIMD_INL_H_
#else
#define CAKE_KERNELS_SIMD_INL_H_
#endif

#include <hwy/highway.h>

#include <hwy/contrib/math/math-inl.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <type_traits>

#include "kernels/layout.hpp"
#include "kernels/rows.hpp"

HWY_BEFORE_NAMESPACE();
namespace cake::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::ScalableTag<float>;
using Vector = hn::Vec<F32>;
constexpr size_t kLanes = hn::MaxLanes(F32());
/// Number of columns that a product computes at a time: two vectors.
constexpr size_t kPanel = 2 * kLanes;
/// Number of rows that it computes at a time, limited by the number of registers.
#if HWY_TARGET <= HWY_AVX3 || HWY_ARCH_ARM_A64
constexpr size_t kRows = 12;
#else
constexpr size_t kRows = 6;
#endif

constexpr size_t padded(size_t n) {
    return (n + kPanel - 1) / kPanel * kPanel;
}

/// 2^x for x <= 0, with a relative error of 1e-7. 0 for x <= -127, including minus infinity.
HWY_INLINE Vector exp2_of_negative(Vector x) {
    const F32 f;
    const hn::RebindToSigned<F32> i;
    x = hn::Max(x, hn::Set(f, -127.0F));
    const auto whole = hn::Round(x);
    const auto rest = hn::Sub(x, whole);  // in [-1/2, 1/2], the range of the minimax polynomial
    auto y = hn::Set(f, 0.0013276472F);
    y = hn::MulAdd(y, rest, hn::Set(f, 0.0096755410F));
    y = hn::MulAdd(y, rest, hn::Set(f, 0.0555071309F));
    y = hn::MulAdd(y, rest, hn::Set(f, 0.2402212024F));
    y = hn::MulAdd(y, rest, hn::Set(f, 0.6931469440F));
    y = hn::MulAdd(y, rest, hn::Set(f, 1.0000001192F));
    const auto exponent = hn::ShiftLeft<23>(hn::Add(hn::ConvertTo(i, whole), hn::Set(i, 127)));
    return hn::Mul(y, hn::BitCast(f, exponent));
}

/// The largest of `width` logits; `width` is a multiple of kPanel.
HWY_INLINE float largest_of(const float* logits, size_t width) {
    const F32 f;
    auto most0 = hn::Load(f, logits);
    auto most1 = hn::Load(f, logits + kLanes);
    for (size_t i = kPanel; i < width; i += kPanel) {
        most0 = hn::Max(most0, hn::Load(f, logits + i));
        most1 = hn::Max(most1, hn::Load(f, logits + i + kLanes));
    }
    return hn::ReduceMax(f, hn::Max(most0, most1));
}

/// Caps logits that were divided by `softcap`; the results are to the base 2.
HWY_INLINE void cap(float* logits, size_t width, float softcap) {
    const F32 f;
    const auto factor = hn::Set(f, softcap * kLog2E);
    for (size_t i = 0; i < width; i += kLanes)
        hn::Store(hn::Mul(hn::Tanh(f, hn::Load(f, logits + i)), factor), f, logits + i);
}

// Rows of each type. load() converts values [i, i + kLanes) to float32; with `n`, only the first n exist and the others
// are 0.

struct F32Row {
    static constexpr size_t kBlock = 1;
    const float* values;
    HWY_INLINE Vector load(size_t i) const { return hn::LoadU(F32(), values + i); }
    HWY_INLINE Vector load(size_t i, size_t n) const { return hn::LoadN(F32(), values + i, n); }
};

/// float16 or bfloat16.
template <typename T>
struct HalfRow {
    static constexpr size_t kBlock = 1;
    const T* values;
    HWY_INLINE Vector load(size_t i) const {
        return hn::PromoteTo(F32(), hn::LoadU(hn::Rebind<T, F32>(), values + i));
    }
    HWY_INLINE Vector load(size_t i, size_t n) const {
        return hn::PromoteTo(F32(), hn::LoadN(hn::Rebind<T, F32>(), values + i, n));
    }
};

/// Quantised values come in blocks of 32, which begin with their scale as a float16.
HWY_INLINE Vector block_scale(const uint8_t* block) {
    const hn::CappedTag<float, 1> one;
    const hn::Rebind<hwy::float16_t, decltype(one)> half;
    const auto scale = hn::LoadU(half, reinterpret_cast<const hwy::float16_t*>(block));
    return hn::Set(F32(), hn::GetLane(hn::PromoteTo(one, scale)));
}

/// The scale is followed by 32 signed bytes.
struct Q8Row {
    static constexpr size_t kBlock = 32;
    const uint8_t* blocks;
    HWY_INLINE Vector load(size_t i) const {
        const uint8_t* block = blocks + i / kBlock * 34;
        const hn::Rebind<int8_t, F32> bytes;
        const auto values = hn::LoadU(bytes, reinterpret_cast<const int8_t*>(block) + 2 + i % kBlock);
        const hn::RebindToSigned<F32> whole;
        return hn::Mul(hn::ConvertTo(F32(), hn::PromoteTo(whole, values)), block_scale(block));
    }
    HWY_INLINE Vector load(size_t i, size_t) const { return load(i); }
};

/// The scale is followed by 16 bytes. Value j is the low half of byte j and value j + 16 its high half, each minus 8.
struct Q4Row {
    static constexpr size_t kBlock = 32;
    const uint8_t* blocks;
    HWY_INLINE Vector load(size_t i) const {
        const uint8_t* block = blocks + i / kBlock * 18;
        const hn::Rebind<uint8_t, F32> bytes;
        const auto pairs = hn::LoadU(bytes, block + 2 + i % 16);
        const auto halves = i % kBlock < 16 ? hn::And(pairs, hn::Set(bytes, 15)) : hn::ShiftRight<4>(pairs);
        const hn::RebindToSigned<F32> whole;
        const auto values = hn::Sub(hn::PromoteTo(whole, halves), hn::Set(whole, 8));
        return hn::Mul(hn::ConvertTo(F32(), values), block_scale(block));
    }
    HWY_INLINE Vector load(size_t i, size_t) const { return load(i); }
};

/// Prefetches `n` rows that will be needed soon. The hardware prefetcher stops at page boundaries, and a cache spans
/// many pages.
HWY_INLINE void prefetch(const Rows& rows, int64_t slot, size_t n) {
    constexpr int64_t kAhead = 32;
    constexpr size_t kLine = 64;
    const auto* row = static_cast<const uint8_t*>(rows.data) + static_cast<size_t>(slot + kAhead) * rows.row_bytes;
    for (size_t i = 0; i < n * rows.row_bytes; i += kLine) __builtin_prefetch(row + i, 0, 2);
}

/// Calls `work` with a function that returns the row of a slot, typed according to `rows.type`.
template <typename Work>
HWY_INLINE void with_rows(const Rows& rows, Work work) {
    const auto at = [&]<typename T>(int64_t slot) HWY_ATTR {
        return reinterpret_cast<const T*>(static_cast<const uint8_t*>(rows.data) +
                                          static_cast<size_t>(slot) * rows.row_bytes);
    };
    switch (rows.type) {
        case GGML_TYPE_F32:
            return work([&](int64_t slot) HWY_ATTR { return F32Row{at.template operator()<float>(slot)}; });
        case GGML_TYPE_BF16:
            return work([&](int64_t slot) HWY_ATTR {
                return HalfRow<hwy::bfloat16_t>{at.template operator()<hwy::bfloat16_t>(slot)};
            });
        case GGML_TYPE_Q8_0:
            return work([&](int64_t slot) HWY_ATTR { return Q8Row{at.template operator()<uint8_t>(slot)}; });
        case GGML_TYPE_Q4_0:
            return work([&](int64_t slot) HWY_ATTR { return Q4Row{at.template operator()<uint8_t>(slot)}; });
        default:
            return work([&](int64_t slot) HWY_ATTR {
                return HalfRow<hwy::float16_t>{at.template operator()<hwy::float16_t>(slot)};
            });
    }
}

/// Values [i, i + kLanes) of a row of `dim` values, with zeros after its end.
template <typename Row>
HWY_INLINE Vector values_of(const Row& row, size_t i, size_t dim) {
    if (i + kLanes <= dim) return row.load(i);
    return i < dim ? row.load(i, dim - i) : hn::Zero(F32());
}

/// Products of float32. The second factor of a product interleaves kStep rows.
struct SingleProducts {
    using T = float;
    static constexpr size_t kStep = 1;

    static HWY_INLINE auto load(const T* panel) { return hn::Load(F32(), panel); }
    static HWY_INLINE auto broadcast(const T* a) { return hn::Set(F32(), *a); }
    template <typename V>
    static HWY_INLINE Vector add(Vector sum, V a, V b) {
        return hn::MulAdd(a, b, sum);
    }
    /// Values [i, i + kStep * kLanes) of a row of `dim` values, kStep of them per 32-bit word.
    template <typename Row>
    static HWY_INLINE Vector words(const Row& row, size_t i, size_t dim) {
        return values_of(row, i, dim);
    }
    /// Stores two consecutive vectors.
    static HWY_INLINE void store(Vector first, Vector second, T* to) {
        hn::StoreU(first, F32(), to);
        hn::StoreU(second, F32(), to + kLanes);
    }
};

#if HWY_NATIVE_DOT_BF16
/// Products of bfloat16 pairs, summed in float32.
struct HalfProducts {
    using T = hwy::bfloat16_t;
    static constexpr size_t kStep = 2;
    using BF16 = hn::Repartition<T, F32>;
    using U32 = hn::RebindToUnsigned<F32>;

    static HWY_INLINE auto load(const T* panel) { return hn::Load(BF16(), panel); }
    static HWY_INLINE auto broadcast(const T* a) {
        uint32_t pair = 0;
        std::memcpy(&pair, a, sizeof(pair));
        return hn::BitCast(BF16(), hn::Set(U32(), pair));
    }
    template <typename V>
    static HWY_INLINE Vector add(Vector sum, V a, V b) {
        auto unused = hn::Zero(F32());
        return hn::ReorderWidenMulAccumulate(F32(), a, b, sum, unused);
    }
    template <typename Row>
    static HWY_INLINE Vector words(const Row& row, size_t i, size_t dim) {
        return hn::BitCast(F32(),
                           hn::OrderedDemote2To(BF16(), values_of(row, i, dim), values_of(row, i + kLanes, dim)));
    }
    static HWY_INLINE void store(Vector first, Vector second, T* to) {
        hn::StoreU(hn::OrderedDemote2To(BF16(), first, second), BF16(), to);
    }
};
#endif

/// Computes c = a b, or c = scale c + a b if `scale`, [n_rows], is not null, for one panel of kPanel columns. `a` is
/// [kStep * n_steps, n_rows] with rows `a_stride` apart, `b` is [kStep, kPanel, n_steps], and `c` is [kPanel, n_rows]
/// with rows `c_stride` apart.
template <class P, size_t kN>
HWY_INLINE void multiply(const typename P::T* a, size_t a_stride, const typename P::T* b, size_t n_steps, float* c,
                         size_t c_stride, const float* scale) {
    const F32 f;
    Vector sum0[kN];
    Vector sum1[kN];
    for (size_t r = 0; r < kN; r++) {
        if (scale == nullptr) {
            sum0[r] = sum1[r] = hn::Zero(f);
        } else {
            const auto factor = hn::Set(f, scale[r]);
            sum0[r] = hn::Mul(hn::Load(f, c + r * c_stride), factor);
            sum1[r] = hn::Mul(hn::Load(f, c + r * c_stride + kLanes), factor);
        }
    }
    for (size_t k = 0; k < n_steps; k++) {
        const auto b0 = P::load(b);
        const auto b1 = P::load(b + kLanes * P::kStep);
        b += kPanel * P::kStep;
        for (size_t r = 0; r < kN; r++) {
            const auto factor = P::broadcast(a + r * a_stride + k * P::kStep);
            sum0[r] = P::add(sum0[r], factor, b0);
            sum1[r] = P::add(sum1[r], factor, b1);
        }
    }
    for (size_t r = 0; r < kN; r++) {
        hn::Store(sum0[r], f, c + r * c_stride);
        hn::Store(sum1[r], f, c + r * c_stride + kLanes);
    }
}

/// multiply() for 1 to kRows rows.
template <class P, size_t kN = kRows>
HWY_INLINE void multiply_rows(size_t n_rows, const typename P::T* a, size_t a_stride, const typename P::T* b,
                              size_t n_steps, float* c, size_t c_stride, const float* scale) {
    if (n_rows == kN) return multiply<P, kN>(a, a_stride, b, n_steps, c, c_stride, scale);
    if constexpr (kN > 1) multiply_rows<P, kN - 1>(n_rows, a, a_stride, b, n_steps, c, c_stride, scale);
}

/// Calls `work` with std::integral_constant 0 to kN - 1 in order: a loop with a constant counter, so that arrays of
/// vectors stay in registers.
template <size_t kN, typename Work>
HWY_INLINE void repeat(Work work) {
    if constexpr (kN > 0) {
        repeat<kN - 1>(work);
        work(std::integral_constant<size_t, kN - 1>());
    }
}

/// Transposes kLanes vectors of words in place.
template <typename V>
HWY_INLINE void transpose(V (&a)[kLanes]) {
    const hn::DFromV<V> d;
    V b[kLanes];
    // Each round exchanges one bit of the row index with one bit of the index within the row.
    repeat<std::bit_width(kLanes) - 1>([&](auto) HWY_ATTR {
        repeat<kLanes / 2>([&](auto i) HWY_ATTR {
            b[2 * i] = hn::InterleaveWholeLower(d, a[i], a[i + kLanes / 2]);
            b[2 * i + 1] = hn::InterleaveWholeUpper(d, a[i], a[i + kLanes / 2]);
        });
        repeat<kLanes>([&](auto i) HWY_ATTR { a[i] = b[i]; });
    });
}

/// Packs the keys of `n` slots from `first` as the second factor of queries times keys: [kStep, kPanel, padded(dim) /
/// kStep, panels of keys]. The contents after the last key are unspecified.
template <class P>
HWY_INLINE void pack_keys(const Rows& rows, int64_t first, size_t n, typename P::T* to) {
    const auto dim = static_cast<size_t>(rows.dim);
    const size_t width = padded(dim);
    with_rows(rows, [&](auto row_at) HWY_ATTR {
        for (size_t begin = 0; begin < n; begin += kLanes) {
            prefetch(rows, first + static_cast<int64_t>(begin), std::min(kLanes, n - begin));
            auto* panel = to + begin / kPanel * kPanel * width + begin % kPanel * P::kStep;
            for (size_t i = 0; i < width; i += kLanes * P::kStep) {
                decltype(P::words(row_at(0), i, dim)) words[kLanes];
                repeat<kLanes>([&](auto j) HWY_ATTR {
                    const auto slot = first + static_cast<int64_t>(std::min(begin + j, n - 1));
                    words[j] = P::words(row_at(slot), i, dim);
                });
                transpose(words);
                repeat<kLanes>([&](auto j) HWY_ATTR {
                    hn::Store(words[j], F32(), reinterpret_cast<float*>(panel + i * kPanel) + j * kPanel);
                });
            }
        }
    });
}

/// Packs the values of `n` slots from `first` as the second factor of weights times values: [kStep, kPanel, n_steps,
/// panels of dim], where n_steps is n / kStep, rounded up. The slot added by rounding is zero.
template <class P>
HWY_INLINE void pack_values(const Rows& rows, int64_t first, size_t n, typename P::T* to) {
    const auto dim = static_cast<size_t>(rows.dim);
    const size_t n_steps = (n + P::kStep - 1) / P::kStep;
    with_rows(rows, [&](auto row_at) HWY_ATTR {
        for (size_t step = 0; step < n_steps; step++) {
            const auto slot = first + static_cast<int64_t>(step * P::kStep);
            prefetch(rows, slot, P::kStep);
            for (size_t i = 0; i < padded(dim); i += kPanel) {
                auto* place = to + (i / kPanel * n_steps + step) * kPanel * P::kStep;
                const auto row = row_at(slot);
                const auto a0 = values_of(row, i, dim);
                const auto a1 = values_of(row, i + kLanes, dim);
#if HWY_NATIVE_DOT_BF16
                if constexpr (P::kStep == 2) {
                    const bool is_pair = step * P::kStep + 1 < n;
                    const auto next = row_at(is_pair ? slot + 1 : slot);
                    const auto b0 = is_pair ? values_of(next, i, dim) : hn::Zero(F32());
                    const auto b1 = is_pair ? values_of(next, i + kLanes, dim) : hn::Zero(F32());
                    const typename P::BF16 bf;
                    const hn::RebindToUnsigned<decltype(bf)> u;
                    const auto a = hn::BitCast(u, hn::OrderedDemote2To(bf, a0, a1));
                    const auto b = hn::BitCast(u, hn::OrderedDemote2To(bf, b0, b1));
                    hn::Store(hn::BitCast(bf, hn::InterleaveWholeLower(u, a, b)), bf, place);
                    hn::Store(hn::BitCast(bf, hn::InterleaveWholeUpper(u, a, b)), bf, place + kPanel);
                    continue;
                }
#endif
                hn::Store(a0, F32(), reinterpret_cast<float*>(place));
                hn::Store(a1, F32(), reinterpret_cast<float*>(place) + kLanes);
            }
        }
    });
}

/// Packs a query, times `scale`, as the first factor: [padded(dim)].
template <class P>
HWY_INLINE void pack_query(const float* query, size_t dim, float scale, typename P::T* to) {
    const F32Row row{query};
    const auto factor = hn::Set(F32(), scale);
    for (size_t i = 0; i < padded(dim); i += kPanel) {
        P::store(hn::Mul(values_of(row, i, dim), factor), hn::Mul(values_of(row, i + kLanes, dim), factor), to + i);
    }
}

}  // namespace cake::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
