#include "support/real_models.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <ranges>
#include <string_view>

#include "cli/model_path.hpp"

namespace cake::test {

namespace {

bool is_required(const std::string& name) {
    const char* names = std::getenv("CAKE_REQUIRE_MODELS");
    if (names == nullptr) return false;
    return std::ranges::any_of(std::string_view(names) | std::views::split(' '),
                               [&](const auto& part) { return std::string_view(part) == name; });
}

}  // namespace

std::expected<std::string, std::string> real_model(const std::string& name) {
    const auto path = cli::models_folder() / (name + ".gguf");
    if (std::filesystem::exists(path)) return path.string();
    std::string why = fmt::format("the model {} is not there: ./dev models {} fetches it", name, name);
    if (is_required(name)) ADD_FAILURE() << why;
    return std::unexpected(std::move(why));
}

std::vector<std::string> real_model_names() {
    return cli::known_model_names();
}

std::string test_name_of_model(std::string name) {
    std::ranges::replace_if(name, [](unsigned char c) { return std::isalnum(c) == 0; }, '_');
    return name;
}

}  // namespace cake::test
