#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "cake/error.hpp"

namespace cake::cli {

/// Folder of the models that are found by name: CAKE_MODELS_DIR, or "models" in the first of CAKE_DEV_CACHE,
/// XDG_CACHE_HOME/cake and HOME/.cache/cake that the environment gives; empty if it gives none.
std::filesystem::path models_folder();

/// Names of the models in that folder, sorted.
std::vector<std::string> model_names();

/// Names that ./dev models fetches (tools/models.json).
std::vector<std::string> known_model_names();

/// The path that `-m MODEL` means: a file that exists, or else NAME.gguf in the models folder. What cannot be a name
/// (it has a slash, or ends in .gguf) is returned unchanged. An unknown name is an error that lists the known ones.
Result<std::string> find_model(const std::string& model);

}  // namespace cake::cli
