#pragma once

#include <string>

namespace cake {

/// One message of a conversation; `role` is what the model's template knows: "system", "user", "assistant".
struct ChatMessage {
    std::string role;
    std::string content;
};

}  // namespace cake
