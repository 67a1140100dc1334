#pragma once

#include <optional>

namespace cake {

/// The value as JSON, or null if it is not set. `Json` is one of nlohmann's types.
template <typename Json, typename T>
Json value_or_null(const std::optional<T>& value) {
    return value ? Json(*value) : Json(nullptr);
}

}  // namespace cake
