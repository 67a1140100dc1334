#include "cake/sequence.hpp"

#include <algorithm>
#include <format>

#include "engine/decode.hpp"
#include "engine/prefill.hpp"
#include "engine/sequence_state.hpp"
#include "text/sampler.hpp"

namespace cake {

namespace {

/// Everything that can be said against a segment before any work is done.
Result<void> check_segment(const SequenceState& state, std::span<const Token> tokens) {
    if (state.broken) return fail("an earlier text was not read to its end: this sequence cannot go on");
    if (tokens.empty()) return fail("there is nothing to read: the text holds no token");
    const int32_t n_vocab = state.hparams().n_vocab;
    const auto outside = std::ranges::find_if(tokens, [&](Token t) { return t < 0 || t >= n_vocab; });
    if (outside != tokens.end())
        return fail(std::format("the token {} is outside the vocabulary of {}", *outside, n_vocab));
    constexpr int64_t kMostTokens = int64_t{1} << 28;
    const int64_t limit = state.options.max_tokens > 0 ? state.options.max_tokens : kMostTokens;
    const int64_t wanted = state.n_tokens + static_cast<int64_t>(tokens.size());
    if (wanted > limit) {
        return fail(std::format(
            "the text reaches {} tokens and the context holds {}: use a larger context (-c) or a shorter text", wanted,
            limit));
    }
    return {};
}

}  // namespace

Sequence::Sequence(std::unique_ptr<SequenceState> state) : state_(std::move(state)) {}
Sequence::Sequence(Sequence&&) noexcept = default;
Sequence& Sequence::operator=(Sequence&&) noexcept = default;
Sequence::~Sequence() = default;

Result<void> Sequence::append(std::span<const Token> tokens, const AppendOptions& options) {
    if (auto checked = check_segment(*state_, tokens); !checked) return checked;
    if (state_->tokens_per_layer == 0) {
        if (auto opened = open_store(*state_, static_cast<int64_t>(tokens.size())); !opened) return opened;
    }
    if (!state_->evicts() && state_->n_tokens + static_cast<int64_t>(tokens.size()) > state_->tokens_per_layer) {
        return fail(std::format("the context of {} tokens is full: a larger one (-c), or a policy that evicts, goes on",
                                state_->tokens_per_layer));
    }
    state_->broken = true;
    auto done = prefill(*state_, tokens, options);
    state_->broken = !done.has_value();
    return done;
}

Result<void> Sequence::decode(Token token) {
    if (state_->tokens_per_layer == 0) return append({&token, 1});
    if (auto checked = check_segment(*state_, {&token, 1}); !checked) return checked;
    return cake::decode(*state_, token);
}

std::generator<Token> Sequence::generate(GenerateOptions options) {
    SequenceState& state = *state_;
    Sampler sampler(options.sampling);
    state.finish_reason = FinishReason::length;
    for (int64_t i = 0; options.max_tokens < 0 || i < options.max_tokens; i++) {
        if (options.cancelled && options.cancelled()) {
            state.finish_reason = FinishReason::cancelled;
            co_return;
        }
        const auto n_vocab = static_cast<size_t>(state.hparams().n_vocab);
        if (state.logits.size() < n_vocab) {
            state.finish_reason = FinishReason::failed;
            state.error = Error{"there is nothing to go on from: append a text first"};
            co_return;
        }
        const Token token = sampler.sample(std::span(state.logits).last(n_vocab));
        if (!options.ignore_eos && state.engine->vocabulary.is_end_of_generation(token)) {
            state.finish_reason = FinishReason::end_of_generation;
            co_return;
        }
        co_yield token;
        // The last token's successor is not asked for.
        if (options.max_tokens >= 0 && i + 1 == options.max_tokens) co_return;
        if (auto decoded = decode(token); !decoded) {
            state.finish_reason = FinishReason::failed;
            state.error = decoded.error();
            co_return;
        }
    }
}

FinishReason Sequence::finish_reason() const {
    return state_->finish_reason;
}
const Error& Sequence::error() const {
    return state_->error;
}
std::span<const float> Sequence::logits() const {
    return state_->logits;
}
int64_t Sequence::n_tokens() const {
    return state_->n_tokens;
}

std::vector<LayerReport> Sequence::layers() const {
    auto layers = state_->layers;
    if (state_->tokens_per_layer == 0) return layers;
    for (int32_t i = 0; i < state_->shape.n_layer; i++) layers[static_cast<size_t>(i)].kept = state_->store.length(i);
    return layers;
}

MemoryReport Sequence::memory() const {
    const auto& s = *state_;
    if (s.tokens_per_layer == 0) return {};
    const auto n_layer = static_cast<uint64_t>(s.shape.n_layer);
    return {.budget_tokens_per_layer = s.tokens_per_layer,
            .kv_bytes_budget = s.store.bytes_allocated(),
            .kv_bytes_peak = s.accountant.bytes_peak(MemoryUse::kv),
            .kv_bytes_now = s.store.bytes_used(),
            .kv_bytes_full_cache = n_layer * s.shape.token_bytes() * static_cast<uint64_t>(s.n_tokens),
            .layer_bytes = s.layer_bytes,
            .hidden_bytes_peak = s.accountant.bytes_peak(MemoryUse::hidden),
            .compute_bytes_peak = s.accountant.bytes_peak(MemoryUse::compute)};
}

}  // namespace cake
