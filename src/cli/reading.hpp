#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cake/engine.hpp"
#include "cli/input.hpp"
#include "cli/progress.hpp"

namespace cake::cli {

/// Returns the tokens of a text, at most `most` (0: no limit). `continues`: the text follows the text of a sequence.
/// Warns if a text that does not continue another begins with the token that is put before every text.
Result<std::vector<Token>> tokens_of(const Engine& engine, const std::string& text, bool continues, int64_t most);

/// Returns a progress callback that updates `bar`, which must outlive it, and cancels after Ctrl-C.
ProgressFunction shown_on(ProgressBar& bar);

/// The same, and warns once if the text, which follows `n_before` tokens, becomes longer than those that the model was
/// trained on. `engine` must outlive the callback, too.
ProgressFunction shown_on(ProgressBar& bar, const Engine& engine, int64_t n_before);

/// Prefills tokens into a sequence and shows a progress bar. After Ctrl-C, the error is "cancelled".
Result<void> read_tokens(Sequence& sequence, const std::vector<Token>& tokens);

/// Prefills a text into a sequence while it is being read, in segments, until its end or for `most` tokens (0: no
/// limit). Returns the number of tokens.
Result<int64_t> read_stream(const Engine& engine, Sequence& sequence, Input& input, int64_t segment, int64_t most);

/// Warns if a text is longer than those that the model was trained on.
void warn_beyond_training(const Engine& engine, int64_t n_tokens);

}  // namespace cake::cli
