#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "cake/error.hpp"

namespace cake::cli {

/// Folder in which models are found by name: CAKE_MODELS_DIR, or "models" in CAKE_DEV_CACHE, XDG_CACHE_HOME/cake or
/// HOME/.cache/cake, whichever variable is set first; empty if none is set.
std::filesystem::path models_folder();

/// Sorted names of the models in that folder.
std::vector<std::string> model_names();

/// Names of the models that `./dev models` fetches (tools/models.json).
std::vector<std::string> known_model_names();

/// The path for `-m MODEL`: MODEL if this file exists, or else MODEL.gguf in the models folder. A value that cannot be
/// a name, because it has a slash or ends in .gguf, is returned unchanged. The error for an unknown name lists the
/// known ones.
Result<std::string> find_model(const std::string& model);

}  // namespace cake::cli
