#pragma once

#include <string>
#include <vector>

#include "cake/export.hpp"

namespace cake {

/// Models of one structure, which files name by general.architecture.
struct ModelFamily {
    std::string architecture;
    std::string models;  // the published models
    std::string traits;  // what differs from the common structure
};

/// The families that Engine::load() accepts.
CAKE_API std::vector<ModelFamily> model_families();

}  // namespace cake
