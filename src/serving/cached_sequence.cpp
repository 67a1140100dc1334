#include "serving/cached_sequence.hpp"

#include <algorithm>
#include <utility>

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

/// True if the next eviction will have the queries of a whole window, although those behind token `n` are dropped: some
/// are left, the prompt brings more, and if it leaves room for a window, the answer does.
bool has_window(const CachedSequence& sequence, size_t n, size_t n_prompt) {
    const auto& state = *sequence.state;
    if (!state.cache.queries.is_kept()) return true;
    const int64_t n_dropped = std::ssize(sequence.tokens) - static_cast<int64_t>(n);
    const int64_t n_left = std::max<int64_t>(state.cache.queries.n_filled() - n_dropped, 0);
    const int64_t n_new = static_cast<int64_t>(n_prompt - n);
    const int32_t window = state.config.options.window;
    return n_left + n_new >= window || static_cast<int64_t>(n_prompt) + window <= sequence.tokens_per_layer;
}

}  // namespace

bool same_options(SequenceOptions a, const SequenceOptions& b) {
    a.max_tokens = b.max_tokens;
    return a == b;
}

size_t reusable_tokens(const CachedSequence& sequence, const SequenceOptions& options, std::span<const Token> prompt) {
    const auto& state = *sequence.state;
    if (!same_options(state.config.options, options)) return 0;
    if (!state.config.evicts() && state.cache.plan.tokens_per_layer < options.max_tokens) return 0;
    auto n = static_cast<size_t>(std::ranges::mismatch(sequence.tokens, prompt).in1 - sequence.tokens.begin());
    if (n == prompt.size()) n--;  // at least one token of the prompt must be left to prefill
    if (n == sequence.tokens.size()) return n;
    if (state.config.hparams().has_recurrent()) {
        if (sequence.snapshot.n_tokens == 0 || sequence.snapshot.n_tokens > n) return 0;
        n = sequence.snapshot.n_tokens;
    }
    // What another conversation shares by chance, such as a system message, is not worth the rest of this one.
    if (2 * n < sequence.tokens.size()) return 0;
    // Tokens evicted during the part that is removed cannot be restored, and attention that it added to the cumulative
    // attention cannot be subtracted.
    if (n < sequence.n_prompt && state.config.sums_attention()) return 0;
    if (!has_window(sequence, n, prompt.size())) return 0;
    const auto length = static_cast<int64_t>(n);
    return length >= state.progress.n_settled && windows_reach(state, length) ? n : 0;
}

void take_snapshot(CachedSequence& sequence) {
    const auto& states = sequence.state->cache.recurrent;
    if (!sequence.may_snapshot || states.is_empty()) return;
    auto& snapshot = sequence.snapshot;
    snapshot.n_tokens = 0;
    if (snapshot.states.is_empty()) {
        const auto& config = sequence.state->config;
        auto made = RecurrentStates::create(sequence.state->accountant, config.engine->compute.memory(),
                                            config.layout.recurrent_layers, config.layout.n_recurrent_state);
        if (!made) return;
        snapshot.states = std::move(*made);
    }
    snapshot.states.copy(states);
    snapshot.n_tokens = sequence.tokens.size();
}

void rewind(CachedSequence& sequence, size_t n) {
    auto& state = *sequence.state;
    const auto n_dropped = static_cast<int64_t>(sequence.tokens.size() - n);
    if (n_dropped == 0) return;
    state.cache.truncate(static_cast<int64_t>(n), n_dropped);
    if (sequence.snapshot.n_tokens == n) state.cache.recurrent.copy(sequence.snapshot.states);
    for (int32_t& unread : state.progress.n_unread)
        unread = static_cast<int32_t>(std::max<int64_t>(unread - n_dropped, 0));
    state.progress.n_tokens = static_cast<int64_t>(n);
    sequence.tokens.resize(n);
    sequence.n_prompt = std::min(sequence.n_prompt, n);
}

}  // namespace cake
