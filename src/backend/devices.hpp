#pragma once

#include <ggml-backend.h>

#include <string>

#include "cake/device.hpp"
#include "cake/error.hpp"

namespace cake {

/// Loads ggml's backends, once.
void load_backends();

/// The device with this name, as list_devices() has it, or an error that lists them.
Result<ggml_backend_dev_t> find_device(const std::string& name);

/// The name of the device for a model whose weights take `n_bytes`: the first GPU that has room for them and for some
/// hundred MiB besides, or else the empty name of the CPU.
std::string usual_device(uint64_t n_bytes);

}  // namespace cake
