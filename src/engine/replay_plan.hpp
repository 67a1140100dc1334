#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cake/error.hpp"
#include "text/vocabulary.hpp"

namespace cake {

/// A chunk of a text, and the tokens with which the model repeats it: the request to do so, as a user writes it, and
/// then the chunk again as the answer.
struct ReplayChunk {
    int64_t begin = 0;
    int64_t end = 0;
    std::vector<int32_t> tokens;
};

/// Tokens of the longest replay of a chunk.
inline constexpr int64_t kMaxReplayTokens = 2048 + 256;

/// Divides a text into chunks of 2,048 tokens and plans their replay (KVzip, arXiv 2505.23416). If the model has a chat
/// template, the request ends like a user's turn, unless that takes more than kMaxReplayTokens.
Result<std::vector<ReplayChunk>> plan_replay(const Vocabulary& vocabulary, std::span<const int32_t> text);

}  // namespace cake
