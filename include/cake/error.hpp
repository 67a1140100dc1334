#pragma once

#include <expected>
#include <string>
#include <utility>

namespace cake {

/// An error. The message is one sentence for a person: what is wrong, where, and what would work. A program decides by
/// the code.
struct Error {
    enum class Code {
        invalid_argument,  // a value, a text or a call that is not possible here
        unsupported,       // a model or a feature that is not implemented
        not_found,         // a file that is missing or cannot be opened
        corrupt,           // a file that is damaged or not what it should be
        out_of_memory,     // there is not enough memory
        cancelled,         // a callback ended the work
        internal,          // a device or a library failed
    };

    std::string message;
    Code code = Code::invalid_argument;
};

template <typename T>
using Result = std::expected<T, Error>;

inline std::unexpected<Error> fail(Error::Code code, std::string message) {
    return std::unexpected(Error{std::move(message), code});
}
inline std::unexpected<Error> fail(std::string message) {
    return fail(Error::Code::invalid_argument, std::move(message));
}

}  // namespace cake
