#pragma once

#include <string>
#include <vector>

namespace cake {

/// What can be asked for by name, with a line on each for help texts.
struct Named {
    std::string name;
    std::string summary;
};

std::vector<Named> policy_names();
std::vector<Named> scorer_names();
std::vector<Named> allocator_names();

}  // namespace cake
