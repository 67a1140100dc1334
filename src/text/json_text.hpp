#pragma once

#include <string>

namespace cake {

/// JSON in one line, with U+FFFD for bytes that are not UTF-8. `Json` is one of nlohmann's types.
template <typename Json>
std::string json_text(const Json& json) {
    return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace cake
