#include "serving/prefill_pacer.hpp"

#include <gtest/gtest.h>

namespace cake {
namespace {

constexpr double kStep = 0.01;  // seconds per decoding step

/// A pacer after some decoding steps without prefill.
PrefillPacer undisturbed() {
    PrefillPacer pacer;
    for (int i = 0; i < 20; i++) pacer.decoded(1, kStep);
    return pacer;
}

TEST(PrefillPacer, ReadsWithoutLimitWhileNobodyGenerates) {
    PrefillPacer pacer;
    pacer.decoded(0, 0);
    EXPECT_TRUE(pacer.is_idle());
    pacer.read(100, true);
    EXPECT_TRUE(pacer.may_read());
}

TEST(PrefillPacer, GivesPrefillLessTimeThanDecodingTakes) {
    auto pacer = undisturbed();
    pacer.decoded(1, kStep);
    EXPECT_FALSE(pacer.is_idle());
    double read_seconds = 0;
    for (; pacer.may_read(); read_seconds += 0.001) pacer.read(0.001, true);
    EXPECT_NEAR(read_seconds, 0.9 * kStep, 0.001 + 1e-9);
}

TEST(PrefillPacer, ALongStepOfPrefillIsPaidForByTheNextSteps) {
    auto pacer = undisturbed();
    pacer.decoded(1, kStep);
    pacer.read(3 * kStep, true);
    int n_steps = 0;
    for (; !pacer.may_read(); n_steps++) pacer.decoded(1, kStep);
    EXPECT_EQ(n_steps, 3);
}

TEST(PrefillPacer, PrefillGetsOnHoweverSlowDecodingBecomes) {
    auto pacer = undisturbed();
    pacer.read(kStep, true);
    pacer.decoded(1, 10 * kStep);  // measured right after a prefill step
    EXPECT_TRUE(pacer.may_read());
    pacer.read(2 * kStep, true);
    EXPECT_TRUE(pacer.may_read());
    pacer.read(kStep, true);
    EXPECT_FALSE(pacer.may_read());
}

TEST(PrefillPacer, TimeNotUsedIsNotSaved) {
    auto pacer = undisturbed();
    for (int i = 0; i < 100; i++) pacer.decoded(1, kStep);
    pacer.read(kStep, true);
    EXPECT_FALSE(pacer.may_read());
}

TEST(PrefillPacer, TheFirstPromptAndTheShortestGetEquallyMuchTime) {
    PrefillPacer pacer;
    EXPECT_FALSE(pacer.prefers_shortest());
    pacer.read(2, true);
    EXPECT_TRUE(pacer.prefers_shortest());
    pacer.read(1, false);
    EXPECT_TRUE(pacer.prefers_shortest());
    pacer.read(1, false);
    EXPECT_FALSE(pacer.prefers_shortest());
    pacer.read(1, true);
    pacer.forget_balance();
    EXPECT_FALSE(pacer.prefers_shortest());
}

}  // namespace
}  // namespace cake
