#pragma once

#include <gtest/gtest.h>

#include <expected>
#include <string>
#include <vector>

namespace cake::test {

/// The file of a model that `./dev models NAME` fetches, or why the test cannot run:
///
///     const auto model = test::real_model("smollm2-135m");
///     if (!model) GTEST_SKIP() << model.error();
///
/// A missing model that CAKE_REQUIRE_MODELS names (a list separated by spaces) is a failure of the test instead.
std::expected<std::string, std::string> real_model(const std::string& name);

/// Names of all of them, smallest first; for value-parameterised tests.
std::vector<std::string> real_model_names();
/// What a test of one is called: "qwen2_5_coder_0_5b".
std::string real_model_test_name(const testing::TestParamInfo<std::string>& instance);

}  // namespace cake::test
