#include "cake/families.hpp"

#include "model/architecture.hpp"

namespace cake {

std::vector<ModelFamily> model_families() {
    std::vector<ModelFamily> families;
    for (const auto& architecture : architectures())
        families.push_back({.architecture = std::string(architecture.name),
                            .models = std::string(architecture.models),
                            .traits = architecture_traits(architecture)});
    return families;
}

}  // namespace cake
