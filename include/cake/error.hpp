#pragma once

#include <expected>
#include <string>

namespace cake {

/// An error that a user can cause. The message says what is wrong, where, and what would work.
struct Error {
    std::string message;
};

template <typename T>
using Result = std::expected<T, Error>;

inline std::unexpected<Error> fail(std::string message) {
    return std::unexpected(Error{std::move(message)});
}

}  // namespace cake
