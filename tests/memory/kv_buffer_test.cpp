#include "memory/kv_buffer.hpp"

#include <gtest/gtest.h>

#include <numeric>

#include "support/cpu.hpp"

namespace cake {
namespace {

constexpr KvShape kShape = {.n_layer = 3,
                            .n_head_kv = 2,
                            .head_dim_k = 64,
                            .head_dim_v = 32,
                            .type_k = GGML_TYPE_Q8_0,
                            .type_v = GGML_TYPE_F16};

/// A buffer in which all bytes of slot i are 2 * i in K and 2 * i + 1 in V.
KvBuffer numbered(Accountant& accountant, int64_t n_slots) {
    auto buffer = KvBuffer::allocate(accountant, test::cpu_buffer_type(), kShape, n_slots, "the test's slots");
    EXPECT_TRUE(buffer);
    if (!buffer) return {};
    for (size_t i = 0; i < static_cast<size_t>(n_slots); i++) {
        const std::vector<uint8_t> k(kShape.row_bytes_k(), static_cast<uint8_t>(2 * i));
        const std::vector<uint8_t> v(kShape.row_bytes_v(), static_cast<uint8_t>(2 * i + 1));
        ggml_backend_tensor_set(buffer->k(), k.data(), i * k.size(), k.size());
        ggml_backend_tensor_set(buffer->v(), v.data(), i * v.size(), v.size());
    }
    return std::move(*buffer);
}

/// For each slot, the original index of its content. Fails if its K and V come from different slots.
std::vector<int32_t> contents(const KvBuffer& buffer) {
    std::vector<int32_t> slots;
    for (size_t i = 0; i < static_cast<size_t>(buffer.n_slots()); i++) {
        std::vector<uint8_t> k(kShape.row_bytes_k());
        std::vector<uint8_t> v(kShape.row_bytes_v());
        ggml_backend_tensor_get(buffer.k(), k.data(), i * k.size(), k.size());
        ggml_backend_tensor_get(buffer.v(), v.data(), i * v.size(), v.size());
        EXPECT_EQ(k, std::vector<uint8_t>(k.size(), k.front())) << "slot " << i;
        EXPECT_EQ(v, std::vector<uint8_t>(v.size(), static_cast<uint8_t>(k.front() + 1))) << "slot " << i;
        slots.push_back(k.front() / 2);
    }
    return slots;
}

std::vector<int32_t> move(int64_t n_slots, const std::vector<RowMove>& moves) {
    Accountant accountant;
    const auto buffer = numbered(accountant, n_slots);
    move_slots(buffer, buffer, moves);
    return contents(buffer);
}

TEST(KvShape, CountsBytesByType) {
    EXPECT_EQ(kShape.row_bytes_k(), 68U);  // 2 blocks, each of 32 values and a scale
    EXPECT_EQ(kShape.row_bytes_v(), 64U);
    EXPECT_EQ(kShape.slot_bytes(), 132U);
    EXPECT_EQ(kShape.token_bytes(), 264U);
}

TEST(KvBuffer, HasARowForEachSlotAndAccountsForAllOfThem) {
    Accountant accountant;
    const auto buffer = numbered(accountant, 7);
    EXPECT_EQ(buffer.n_slots(), 7);
    EXPECT_EQ(buffer.k()->ne[0], 64);
    EXPECT_EQ(buffer.k()->ne[1], 7);
    EXPECT_EQ(buffer.v()->ne[0], 32);
    EXPECT_EQ(buffer.v()->ne[1], 7);
    EXPECT_GE(buffer.size_bytes(), 7 * kShape.slot_bytes());
    EXPECT_LT(buffer.size_bytes(), 7 * kShape.slot_bytes() + ggml_backend_buft_get_alignment(test::cpu_buffer_type()));
    EXPECT_EQ(accountant.bytes_now(MemoryUse::kv), buffer.size_bytes());
    EXPECT_EQ(contents(buffer), (std::vector<int32_t>{0, 1, 2, 3, 4, 5, 6}));
}

TEST(KvBuffer, ASizeThatTheDeviceCannotGiveIsRefused) {
    Accountant accountant;
    const auto buffer =
        KvBuffer::allocate(accountant, test::cpu_buffer_type(), kShape, int64_t{1} << 50U, "the test's slots");
    ASSERT_FALSE(buffer);
    EXPECT_TRUE(buffer.error().message.starts_with("the test's slots needs ")) << buffer.error().message;
    EXPECT_EQ(accountant.bytes_peak(MemoryUse::kv), 0U);
}

TEST(MoveSlots, MovesKAndVOfEveryRun) {
    EXPECT_EQ(move(6, {{.from = 4, .to = 0, .length = 2}}), (std::vector<int32_t>{4, 5, 2, 3, 4, 5}));
    EXPECT_EQ(move(6, {{.from = 2, .to = 1, .length = 1}, {.from = 5, .to = 2, .length = 1}}),
              (std::vector<int32_t>{0, 2, 5, 3, 4, 5}));
    EXPECT_EQ(move(3, {{.from = 0, .to = 2, .length = 0}}), (std::vector<int32_t>{0, 1, 2}));
    EXPECT_EQ(move(3, {}), (std::vector<int32_t>{0, 1, 2}));
}

TEST(MoveSlots, ARunMayOverlapItselfEitherWay) {
    EXPECT_EQ(move(6, {{.from = 1, .to = 0, .length = 5}}), (std::vector<int32_t>{1, 2, 3, 4, 5, 5}));
    EXPECT_EQ(move(6, {{.from = 0, .to = 1, .length = 5}}), (std::vector<int32_t>{0, 0, 1, 2, 3, 4}));
}

TEST(MoveSlots, MovesBetweenBuffers) {
    Accountant accountant;
    const auto from = numbered(accountant, 8);
    const auto to = numbered(accountant, 4);
    move_slots(from, to, std::vector<RowMove>{{.from = 6, .to = 1, .length = 2}});
    EXPECT_EQ(contents(to), (std::vector<int32_t>{0, 6, 7, 3}));
    EXPECT_EQ(contents(from), (std::vector<int32_t>{0, 1, 2, 3, 4, 5, 6, 7}));
}

}  // namespace
}  // namespace cake
