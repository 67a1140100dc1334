// Compares every row of the table of architectures with llama.cpp on the same file.

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "cake/engine.hpp"
#include "model/architecture.hpp"
#include "parity/comparison.hpp"
#include "support/test_models.hpp"

namespace cake {
namespace {

class Family : public testing::TestWithParam<std::string> {};

/// 300 tokens are several times the length of the sliding windows.
TEST_P(Family, GivesLlamaCppsLogits) {
    for (const auto* type : {"", "-q8_0"}) {
        SCOPED_TRACE(GetParam() + type);
        const std::string path = test::model_path(GetParam() + type);
        auto engine = Engine::load(path, {.threads = 1});
        ASSERT_TRUE(engine) << engine.error().message;
        const auto tokens = test::sample_tokens(*engine, 300);
        test::expect_parity(path, tokens, 1e-4, true);
        test::expect_parity(path, tokens, 1e-4, false);
    }
}

INSTANTIATE_TEST_SUITE_P(All, Family, testing::ValuesIn(test::family_names()), test::family_test_name);

TEST(Families, AreAllThatTheTableHas) {
    std::set<std::string> compared;
    for (const auto& name : test::family_names()) {
        auto engine = Engine::load(test::model_path(name), {.threads = 1});
        ASSERT_TRUE(engine) << engine.error().message;
        compared.insert(engine->info().architecture);
    }
    for (const auto& architecture : architectures()) EXPECT_TRUE(compared.contains(std::string(architecture.name)));
}

}  // namespace
}  // namespace cake
