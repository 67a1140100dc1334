#include "serving/cached_sequence.hpp"

#include <algorithm>

namespace cake {

namespace {

/// True if the sliding layers still hold the sliding window that ends at token `n`.
bool windows_reach(const SequenceParts& state, int64_t n) {
    const int64_t first = std::max<int64_t>(n - state.config.hparams().n_swa, 0);
    for (const int32_t layer : state.cache.sliding.layers()) {
        const auto positions = state.cache.sliding.positions(layer, 0);
        if (positions.empty() || positions.front() > first) return false;
    }
    return true;
}

bool same_options(SequenceOptions a, const SequenceOptions& b) {
    a.max_tokens = b.max_tokens;
    return a == b;
}

}  // namespace

size_t reusable_tokens(const CachedSequence& sequence, const SequenceOptions& options, std::span<const Token> prompt) {
    const auto& state = *sequence.state;
    if (!same_options(state.config.options, options)) return 0;
    if (!state.config.evicts() && state.cache.plan.tokens_per_layer < options.max_tokens) return 0;
    const auto n = static_cast<size_t>(std::ranges::mismatch(sequence.tokens, prompt).in1 - sequence.tokens.begin());
    // At least one token of the prompt must be left to prefill.
    if (n < sequence.n_prompt || n >= prompt.size()) return 0;
    if (n == sequence.tokens.size()) return n;
    // Tokens evicted during the part of the answer that is removed cannot be restored, and attention that it added to
    // the cumulative attention cannot be subtracted.
    const auto length = static_cast<int64_t>(n);
    return length >= state.progress.n_settled && windows_reach(state, length) ? n : 0;
}

void rewind(CachedSequence& sequence, size_t n) {
    auto& state = *sequence.state;
    const auto n_dropped = static_cast<int64_t>(sequence.tokens.size() - n);
    if (n_dropped == 0) return;
    state.cache.truncate(static_cast<int64_t>(n), n_dropped);
    for (int32_t& unread : state.progress.n_unread)
        unread = static_cast<int32_t>(std::max<int64_t>(unread - n_dropped, 0));
    state.progress.n_tokens = static_cast<int64_t>(n);
    sequence.tokens.resize(n);
}

}  // namespace cake
