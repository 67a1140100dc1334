#pragma once

// The instruction sets that the kernels are compiled for; the best one that the machine supports is chosen at run time.
// Must be included before Highway. Disabled are targets that are no faster than the next lower one, and those without a
// fixed vector length.
#define HWY_DISABLED_TARGETS                                                                                        \
    (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL | HWY_AVX10_2 | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV | \
     HWY_NEON_WITHOUT_AES)
// Compile all other targets, including the portable one, so that the tests can compare them.
#define HWY_COMPILE_ALL_ATTAINABLE
// Highway disables EMU128 for older compilers because of an operation that is not used here. Its substitute lacks
// operations that are.
#define HWY_BROKEN_EMU128 0
