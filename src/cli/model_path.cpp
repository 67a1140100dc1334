#include "cli/model_path.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <string_view>
#include <system_error>

namespace cake::cli {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view kSuffix = ".gguf";

std::string_view environment(const char* name) {
    const char* value = std::getenv(name);
    return value == nullptr ? "" : value;
}

/// Part of an error message: how to get the model, or which models exist.
std::string what_would_work(const std::string& name) {
    const auto known = known_model_names();
    const bool can_be_fetched = std::ranges::contains(known, name);
    std::string text = can_be_fetched ? fmt::format("; ./dev models {} fetches it", name) : "";
    const auto names = model_names();
    if (!names.empty()) text += fmt::format("; {} has {}", models_folder().string(), fmt::join(names, ", "));
    if (names.empty() && !can_be_fetched)
        text += fmt::format("; pass a GGUF file, or a model that ./dev models fetches: {}", fmt::join(known, ", "));
    return text;
}

}  // namespace

fs::path models_folder() {
    if (const auto folder = environment("CAKE_MODELS_DIR"); !folder.empty()) return folder;
    if (const auto cache = environment("CAKE_DEV_CACHE"); !cache.empty()) return fs::path(cache) / "models";
    if (const auto cache = environment("XDG_CACHE_HOME"); !cache.empty()) return fs::path(cache) / "cake" / "models";
    if (const auto home = environment("HOME"); !home.empty()) return fs::path(home) / ".cache" / "cake" / "models";
    return {};
}

std::vector<std::string> model_names() {
    std::vector<std::string> names;
    std::error_code error;  // ignored: if the folder cannot be read, there are no models
    fs::directory_iterator entry(models_folder(), error);
    for (; !error && entry != fs::directory_iterator(); entry.increment(error))
        if (entry->path().extension() == kSuffix) names.push_back(entry->path().stem().string());
    std::ranges::sort(names);
    return names;
}

std::vector<std::string> known_model_names() {
    constexpr std::string_view kNames[] = {"smollm2-135m", "gemma3-270m", "qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b"};
    return {std::begin(kNames), std::end(kNames)};
}

Result<std::string> find_model(const std::string& model) {
    std::error_code error;
    const bool can_be_name = !model.empty() && !model.contains('/') && !model.ends_with(kSuffix);
    if (!can_be_name || (fs::exists(model, error) && !fs::is_directory(model, error))) return model;
    if (const auto folder = models_folder(); !folder.empty())
        if (auto path = folder / (model + std::string(kSuffix)); fs::exists(path, error)) return path.string();
    if (fs::exists(model, error)) return model;  // a folder: the loader reports the error
    return fail(Error::Code::not_found,
                fmt::format("there is no file or model \"{}\"{}", model, what_would_work(model)));
}

}  // namespace cake::cli
