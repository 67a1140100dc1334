#pragma once

#include <ggml-backend.h>

#include <string>
#include <vector>

#include "cake/device.hpp"
#include "cake/error.hpp"

namespace cake {

/// Loads ggml's backends, once.
void load_backends();

/// The device with this name, as list_devices() has it, or an error that lists them.
Result<ggml_backend_dev_t> find_device(const std::string& name);

/// The names of list_devices(), without cards that are there already under the name of another backend.
std::vector<std::string> names_of_cards();

}  // namespace cake
