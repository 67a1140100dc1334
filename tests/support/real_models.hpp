#pragma once

#include <gtest/gtest.h>

#include <expected>
#include <string>
#include <vector>

namespace cake::test {

/// Path of a model that `./dev models NAME` has fetched, or the reason why the test cannot run:
///
///     const auto model = test::real_model("smollm2-135m");
///     if (!model) GTEST_SKIP() << model.error();
///
/// If CAKE_REQUIRE_MODELS (names separated by spaces) contains a missing model, the test fails instead.
std::expected<std::string, std::string> real_model(const std::string& name);

/// Names of all these models, smallest first, for value-parameterised tests.
std::vector<std::string> real_model_names();
/// Name of a test with a model, such as "qwen2_5_coder_0_5b".
std::string test_name_of_model(std::string name);

}  // namespace cake::test
