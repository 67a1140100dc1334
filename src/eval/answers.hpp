#pragma once

#include <functional>
#include <span>
#include <string>

#include "cake/engine.hpp"
#include "cake/sequence.hpp"
#include "eval/sample.hpp"

namespace cake::eval {

/// The answer to a sample under one setting.
struct Answer {
    const Sample* sample;
    Sequence* sequence;  // has read the prompt
    std::string text{};
    bool is_whole = false;
};

/// Decodes all answers greedily in one batch. Each ends at its sample's token limit, at the end of generation, or when
/// nothing that follows could change its score. Ends early, without an error, when `go_on` returns false. After an
/// error, too, some answers may be whole.
/// Errors: those of decode_each(); `corrupt` if the logits are not finite.
Result<void> write_answers(const Engine& engine, std::span<Answer> answers, const std::function<bool()>& go_on);

}  // namespace cake::eval
