#pragma once

// Which instruction sets the kernels are compiled for; the best that the machine has is chosen at run time. Included
// before Highway. Left out are those that would do the same as the next lower one, and those without vectors of a fixed
// length.
#define HWY_DISABLED_TARGETS                                                                                        \
    (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL | HWY_AVX10_2 | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV | \
     HWY_NEON_WITHOUT_AES)
// All of them, the portable one too, so that the tests compare each.
#define HWY_COMPILE_ALL_ATTAINABLE
// What Highway calls broken in older compilers is an operation that is not used here; its substitute lacks others.
#define HWY_BROKEN_EMU128 0
