#pragma once

#include "server/answer.hpp"
#include "server/body.hpp"

namespace cake::server {

/// Log probabilities of the tokens of a choice from number `first` on, as in chat completions.
Json chat_logprobs(const Answer& answer, const Choice& choice, size_t first);
/// The same as in the older format of completions.
Json text_logprobs(const Answer& answer, const Choice& choice, size_t first);
/// The same as in llama.cpp's own format.
Json native_logprobs(const Answer& answer, const Choice& choice, size_t first);

}  // namespace cake::server
