#pragma once

#include <chrono>
#include <string>

namespace cake {

/// Reason why a request was not accepted.
struct Refusal {
    enum class Reason { invalid, too_long, budget, grammar, busy };
    Reason reason = Reason::invalid;
    std::string message;
    std::chrono::seconds retry_after{0};  // set if the reason is `busy`
};

}  // namespace cake
