#pragma once

#include <chrono>
#include <string>

namespace cake {

/// Why a request was not taken.
struct Refusal {
    enum class Reason { invalid, too_long, budget, grammar, busy };
    Reason reason = Reason::invalid;
    std::string message;
    std::chrono::seconds retry_after{0};  // if it is busy
};

}  // namespace cake
