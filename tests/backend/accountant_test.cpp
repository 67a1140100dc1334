#include "backend/accountant.hpp"

#include <gtest/gtest.h>

#include "support/cpu.hpp"

namespace cake {
namespace {

AccountedBuffer allocate(Accountant& accountant, MemoryUse use, size_t n_bytes) {
    auto buffer = AccountedBuffer::allocate(accountant, use, test::cpu_buffer_type(), n_bytes, "the test's buffer");
    EXPECT_TRUE(buffer);
    return buffer ? std::move(*buffer) : AccountedBuffer();
}

TEST(Accountant, ThePeakIsTheMostThatWasHeldAtOnce) {
    Accountant accountant;
    accountant.take(MemoryUse::kv, 100);
    accountant.take(MemoryUse::kv, 50);
    accountant.give(MemoryUse::kv, 120);
    accountant.take(MemoryUse::kv, 60);
    EXPECT_EQ(accountant.bytes_now(MemoryUse::kv), 90U);
    EXPECT_EQ(accountant.bytes_peak(MemoryUse::kv), 150U);
    accountant.take(MemoryUse::kv, 61);
    EXPECT_EQ(accountant.bytes_peak(MemoryUse::kv), 151U);
}

TEST(Accountant, UsesAreCountedApart) {
    Accountant accountant;
    accountant.take(MemoryUse::kv, 1);
    accountant.take(MemoryUse::hidden, 20);
    accountant.take(MemoryUse::compute, 300);
    accountant.give(MemoryUse::hidden, 20);
    EXPECT_EQ(accountant.bytes_now(MemoryUse::kv), 1U);
    EXPECT_EQ(accountant.bytes_now(MemoryUse::hidden), 0U);
    EXPECT_EQ(accountant.bytes_now(MemoryUse::compute), 300U);
    EXPECT_EQ(accountant.bytes_peak(MemoryUse::hidden), 20U);
}

TEST(AccountedBuffer, CountsAsLongAsItLives) {
    Accountant accountant;
    {
        const auto first = allocate(accountant, MemoryUse::hidden, 1000);
        EXPECT_EQ(first.size_bytes(), 1000U);
        ASSERT_NE(first.get(), nullptr);
        EXPECT_GE(ggml_backend_buffer_get_size(first.get()), 1000U);
        const auto second = allocate(accountant, MemoryUse::hidden, 500);
        EXPECT_EQ(accountant.bytes_now(MemoryUse::hidden), 1500U);
    }
    EXPECT_EQ(accountant.bytes_now(MemoryUse::hidden), 0U);
    EXPECT_EQ(accountant.bytes_peak(MemoryUse::hidden), 1500U);
    EXPECT_EQ(accountant.bytes_peak(MemoryUse::kv), 0U);
}

TEST(AccountedBuffer, MovingOneCountsItOnce) {
    Accountant accountant;
    auto first = allocate(accountant, MemoryUse::kv, 1000);
    auto* const memory = first.get();
    const AccountedBuffer second(std::move(first));
    EXPECT_EQ(second.get(), memory);
    EXPECT_EQ(second.size_bytes(), 1000U);
    EXPECT_EQ(accountant.bytes_now(MemoryUse::kv), 1000U);
    EXPECT_EQ(accountant.bytes_peak(MemoryUse::kv), 1000U);
}

TEST(AccountedBuffer, AssigningReleasesWhatWasHeldToItsOwnAccountant) {
    Accountant one;
    Accountant other;
    auto target = allocate(one, MemoryUse::kv, 1000);
    auto source = allocate(other, MemoryUse::compute, 300);
    auto* const memory = source.get();
    target = std::move(source);
    EXPECT_EQ(one.bytes_now(MemoryUse::kv), 0U);
    EXPECT_EQ(other.bytes_now(MemoryUse::compute), 300U);
    EXPECT_EQ(target.get(), memory);
    target = AccountedBuffer();
    EXPECT_EQ(other.bytes_now(MemoryUse::compute), 0U);
    EXPECT_EQ(target.get(), nullptr);
    EXPECT_EQ(target.size_bytes(), 0U);
}

TEST(AccountedBuffer, NothingIsASizeToo) {
    Accountant accountant;
    const auto none = allocate(accountant, MemoryUse::kv, 0);
    EXPECT_NE(none.get(), nullptr);
    EXPECT_EQ(accountant.bytes_peak(MemoryUse::kv), 0U);
}

TEST(AccountedBuffer, ASizeThatTheDeviceCannotGiveIsRefusedAndNotCounted) {
    Accountant accountant;
    const auto buffer = AccountedBuffer::allocate(accountant, MemoryUse::kv, test::cpu_buffer_type(), size_t{1} << 60U,
                                                  "the test's buffer");
    ASSERT_FALSE(buffer);
    EXPECT_NE(buffer.error().message.find("the test's buffer needs 1099511627776 MiB"), std::string::npos)
        << buffer.error().message;
    EXPECT_EQ(accountant.bytes_now(MemoryUse::kv), 0U);
    EXPECT_EQ(accountant.bytes_peak(MemoryUse::kv), 0U);
}

}  // namespace
}  // namespace cake
