#include "backend/graph.hpp"

#include <gtest/gtest.h>

#include "support/cpu.hpp"

namespace cake {
namespace {

/// The sum of two rows of `n` numbers, allocated and computed. False if there is no memory for it.
bool add_rows(GraphRunner& runner, int64_t n) {
    Graph graph(8);
    ggml_tensor* a = graph.input(GGML_TYPE_F32, n);
    ggml_tensor* b = graph.input(GGML_TYPE_F32, n);
    ggml_tensor* sum = graph.output(ggml_add(graph.context(), a, b));
    if (!runner.allocate(graph)) return false;
    set_input<float>(a, std::vector<float>(static_cast<size_t>(n), 1));
    set_input<float>(b, std::vector<float>(static_cast<size_t>(n), 2));
    EXPECT_TRUE(runner.compute(graph));
    std::vector<float> result(static_cast<size_t>(n));
    ggml_backend_tensor_get(sum, result.data(), 0, result.size() * sizeof(float));
    EXPECT_EQ(result, std::vector<float>(static_cast<size_t>(n), 3));
    return true;
}

TEST(GraphRunner, GoesOnAfterAGraphThatIsLargerThanAllMemory) {
    constexpr int64_t kTooMany = int64_t{1} << 50;
    auto compute = Compute::create(1);
    ASSERT_TRUE(compute) << compute.error().message;
    Accountant accountant;
    {
        GraphRunner runner(*compute, accountant);
        EXPECT_TRUE(add_rows(runner, 1000));
        const size_t n_bytes = accountant.bytes_now(MemoryUse::compute);
        EXPECT_GE(n_bytes, 2 * 1000 * sizeof(float));
        EXPECT_FALSE(add_rows(runner, kTooMany));
        EXPECT_EQ(accountant.bytes_now(MemoryUse::compute), 0U);
        EXPECT_FALSE(add_rows(runner, kTooMany)) << "the same graph";
        EXPECT_TRUE(add_rows(runner, 1000));
        EXPECT_EQ(accountant.bytes_now(MemoryUse::compute), n_bytes);
    }
    EXPECT_EQ(accountant.bytes_now(MemoryUse::compute), 0U);
}

}  // namespace
}  // namespace cake
