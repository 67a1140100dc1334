#pragma once

#include <new>
#include <type_traits>

#include "cake/error.hpp"

namespace cake {

inline std::unexpected<Error> out_of_memory() {
    return fail(Error::Code::out_of_memory, "out of memory: use a smaller budget, batch (-b) or text");
}

/// Runs `work` and returns an error if memory runs out.
template <typename Work>
std::invoke_result_t<Work> within_memory(Work work) {
    try {
        return work();
    } catch (const std::bad_alloc&) {
        return out_of_memory();
    }
}

}  // namespace cake
