// Compares our results with those of the authors' code for the same queries, keys and values. The case files are in
// CAKE_GOLDEN_DIR, or else in this folder; each names its method.

#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <map>
#include <string>
#include <vector>

#include "golden/golden_layer.hpp"

namespace cake::test {
namespace {

namespace fs = std::filesystem;

const std::map<std::string, void (*)(const GoldenFile&)> kChecks = {
    {"cake", check_cake},
    {"criticalkv", check_criticalkv},
    {"defensivekv", check_defensivekv},
    {"dropkv", check_dropkv},
    {"expected", check_expected_attention},
    {"kvzip", check_kvzip},
    {"lava", check_lava},
    {"rkv", check_rkv},
};

fs::path folder() {
    const char* named = std::getenv("CAKE_GOLDEN_DIR");
    return named != nullptr && *named != '\0' ? fs::path(named) : fs::path(CAKE_GOLDEN_SOURCE_DIR);
}

std::vector<fs::path> case_files() {
    std::vector<fs::path> files;
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(folder(), error)) {
        if (entry.path().extension() == ".gguf") files.push_back(entry.path());
    }
    std::ranges::sort(files);
    return files;
}

class Golden : public testing::TestWithParam<fs::path> {};

TEST_P(Golden, GivesTheAuthorsNumbers) {
    const GoldenFile file(GetParam());
    std::cout << "method: " << file.method() << "\n";
    const auto check = kChecks.find(file.method());
    ASSERT_NE(check, kChecks.end()) << "there is no check of the method " << file.method();
    check->second(file);
}

TEST(GoldenFolder, HoldsCases) {
    EXPECT_FALSE(case_files().empty()) << "no *.gguf in " << folder();
}

INSTANTIATE_TEST_SUITE_P(Cases, Golden, testing::ValuesIn(case_files()), [](const auto& instance) {
    std::string name = instance.param.stem().string();
    std::ranges::replace_if(name, [](unsigned char c) { return std::isalnum(c) == 0; }, '_');
    return name;
});

}  // namespace
}  // namespace cake::test
