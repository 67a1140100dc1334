#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cake/engine.hpp"
#include "cli/input.hpp"
#include "cli/progress.hpp"

namespace cake::cli {

/// The tokens of a text, at most `most` of them (0: no limit); `continues`: it goes on after what a sequence has read.
/// Warns where the text begins with the token that is put before every text.
Result<std::vector<Token>> tokens_of(const Engine& engine, const std::string& text, bool continues, int64_t most);

/// Shows progress on a bar that outlives it, and stops at Ctrl-C.
ProgressFunction shown_on(ProgressBar& bar);

/// Reads tokens into a sequence, with a bar; Ctrl-C ends it with the error "cancelled".
Result<void> read_tokens(Sequence& sequence, const std::vector<Token>& tokens);

/// Reads a text as it comes into a sequence, in segments, until its end or for `most` tokens (0: no limit), and says
/// how many it were.
Result<int64_t> read_stream(const Engine& engine, Sequence& sequence, Input& input, int64_t segment, int64_t most);

/// Says once where a text is longer than those that the model was trained on.
void warn_beyond_training(const Engine& engine, int64_t n_tokens);

}  // namespace cake::cli
