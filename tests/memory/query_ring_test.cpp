#include "memory/query_ring.hpp"

#include <gtest/gtest.h>

#include <array>

#include "support/cpu.hpp"

namespace cake {
namespace {

QueryRing make(Accountant& accountant, std::span<const int32_t> layers) {
    return std::move(*QueryRing::create(accountant, test::cpu_buffer_type(), layers, 16, 4));
}

/// Age of the query in each row, or -1 if the row holds none.
std::vector<int64_t> ages(const QueryRing& ring) {
    std::vector<int64_t> result;
    for (int64_t row = 0; row < ring.n_rows(); row++)
        result.push_back(ring.age(row) < ring.n_filled() ? ring.age(row) : -1);
    return result;
}

TEST(QueryRing, HoldsTheLastQueriesWhateverCameBefore) {
    Accountant accountant;
    auto ring = make(accountant, std::array{0, 2});
    EXPECT_EQ(ages(ring), (std::vector<int64_t>{-1, -1, -1, -1}));
    ring.push(3);
    EXPECT_EQ(ages(ring), (std::vector<int64_t>{2, 1, 0, -1}));
    ring.push(3);
    EXPECT_EQ(ages(ring), (std::vector<int64_t>{1, 0, 3, 2}));
    ring.pop(2);
    EXPECT_EQ(ages(ring), (std::vector<int64_t>{-1, -1, 1, 0}));
    ring.pop(9);
    EXPECT_EQ(ring.n_filled(), 0);
    ring.restore(4, 1);
    EXPECT_EQ(ages(ring), (std::vector<int64_t>{0, 3, 2, 1}));
}

TEST(QueryRing, HasRowsForItsLayersAlone) {
    Accountant accountant;
    const auto ring = make(accountant, std::array{0, 2});
    EXPECT_TRUE(ring.is_kept());
    ASSERT_NE(ring.layer(0), nullptr);
    ASSERT_NE(ring.layer(2), nullptr);
    EXPECT_NE(ring.layer(0)->data, ring.layer(2)->data);
    EXPECT_EQ(ring.layer(0)->ne[0], 16);
    EXPECT_EQ(ring.layer(0)->ne[1], 4);
    EXPECT_EQ(ring.layer(1), nullptr);
    EXPECT_EQ(ring.layer(3), nullptr);
    EXPECT_GE(accountant.bytes_now(MemoryUse::compute), 2 * 16 * 4 * sizeof(float));
    EXPECT_FALSE(QueryRing().is_kept());
    EXPECT_EQ(QueryRing().layer(0), nullptr);
}

}  // namespace
}  // namespace cake
