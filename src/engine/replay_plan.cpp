#include "engine/replay_plan.hpp"

#include <algorithm>
#include <string_view>

#include "text/chat_template.hpp"

namespace cake {

namespace {

constexpr int64_t kChunk = 2048;
constexpr int64_t kReminder = 8;  // tokens of the chunk before that the request quotes
constexpr std::string_view kFirst = "\n\nRepeat the previous context exactly.";
constexpr std::string_view kNext = "\n\nRepeat the part of the previous context exactly, starting with";

/// What stands between a user's turn and the answer. A line break if the model has no chat template.
Result<std::vector<int32_t>> tokens_before_answer(const Vocabulary& vocabulary) {
    constexpr std::string_view kMarker = "the-request-stands-here";
    const ChatMessage message{.role = "user", .content = std::string(kMarker)};
    const auto rendered = render_chat(vocabulary, {&message, 1}, {});
    const size_t at = rendered ? rendered->text.rfind(kMarker) : std::string::npos;
    if (at == std::string::npos) return vocabulary.tokenize_on("\n");
    return tokenize_chat(vocabulary, rendered->from(at + kMarker.size()), true);
}

}  // namespace

Result<std::vector<ReplayChunk>> plan_replay(const Vocabulary& vocabulary, std::span<const int32_t> text) {
    const auto before_answer = tokens_before_answer(vocabulary);
    if (!before_answer) return std::unexpected(before_answer.error());
    std::vector<ReplayChunk> chunks;
    for (int64_t begin = 0; begin < std::ssize(text); begin += kChunk) {
        const int64_t end = std::min(begin + kChunk, std::ssize(text));
        auto request = vocabulary.tokenize_on(begin == 0 ? kFirst : kNext);
        if (!request) return std::unexpected(request.error());
        const auto upto = text.first(static_cast<size_t>(begin));
        request->append_range(upto.last(static_cast<size_t>(std::min(begin, kReminder))));
        constexpr int64_t kMaxRequest = kMaxReplayTokens - kChunk;
        if (std::ssize(*request) + std::ssize(*before_answer) <= kMaxRequest) request->append_range(*before_answer);
        request->append_range(text.subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin)));
        chunks.push_back({.begin = begin, .end = end, .tokens = std::move(*request)});
    }
    return chunks;
}

}  // namespace cake
