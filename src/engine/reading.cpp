#include "engine/reading.hpp"

#include <algorithm>
#include <format>
#include <ranges>

#include "engine/decode.hpp"
#include "engine/prefill.hpp"

namespace cake {

namespace {

/// Where nothing has been read, all is as if nothing had been asked.
Result<void> prepare(std::span<SequenceParts* const> states, std::span<const Token> tokens, int64_t segment,
                     bool all_logits) {
    const auto n_tokens = static_cast<int64_t>(tokens.size());
    if (segment < 0) return fail("a segment must hold at least 1 token (or 0 for the whole text)");
    if (segment > 0 && segment < n_tokens && all_logits)
        return fail("the logits of all tokens can be had of a text that is read in one segment only");
    for (SequenceParts* state : states) {
        if (auto checked = check_segment(*state, tokens); !checked) return checked;
    }
    for (SequenceParts* state : states) {
        auto made = within_memory([&] { return make_room(*state, n_tokens); });
        if (made) continue;
        for (SequenceParts* opened : states)
            if (opened->progress.n_tokens == 0) opened->close_cache();
        return made;
    }
    return {};
}

/// Later segments are read over what the earlier left, which differs from state to state, so several states take turns
/// from the second on.
std::generator<Result<int64_t>> read_segments(std::span<SequenceParts* const> states, std::span<const Token> tokens,
                                              int64_t segment, bool all_logits) {
    const auto read = [=](std::span<SequenceParts* const> some, size_t begin) -> std::generator<Result<int64_t>> {
        const auto part = tokens.subspan(begin, std::min(static_cast<size_t>(segment), tokens.size() - begin));
        for (auto n_done : prefill(some, part, all_logits)) {
            if (n_done) *n_done += static_cast<int64_t>(begin);
            co_yield n_done;
        }
    };
    co_yield std::ranges::elements_of(read(states, 0));
    for (size_t i = 0; i < states.size(); i++) {
        for (auto begin = static_cast<size_t>(segment); begin < tokens.size(); begin += static_cast<size_t>(segment))
            co_yield std::ranges::elements_of(read(states.subspan(i, 1), begin));
    }
}

}  // namespace

Result<void> check_segment(const SequenceParts& state, std::span<const Token> tokens) {
    if (auto checked = state.status.check(); !checked) return checked;
    if (tokens.empty()) return fail("there is nothing to read: the text holds no token");
    const int32_t n_vocab = state.config.hparams().n_vocab;
    const auto outside = std::ranges::find_if(tokens, [&](Token t) { return t < 0 || t >= n_vocab; });
    if (outside != tokens.end())
        return fail(std::format("the token {} is outside the vocabulary of {}", *outside, n_vocab));
    constexpr int64_t kMostTokens = int64_t{1} << 28;
    const int64_t limit = state.config.options.max_tokens > 0 ? state.config.options.max_tokens : kMostTokens;
    const int64_t wanted = state.progress.n_tokens + static_cast<int64_t>(tokens.size());
    if (wanted > limit) {
        return fail(std::format(
            "the text reaches {} tokens and the context holds {}: use a larger context (-c) or a shorter text", wanted,
            limit));
    }
    return {};
}

Result<void> make_room(SequenceParts& state, int64_t n_tokens) {
    if (!state.cache.is_open()) {
        const auto plan = state.config.plan(n_tokens);
        if (!plan) return std::unexpected(plan.error());
        if (auto opened = state.open_cache(*plan); !opened) return opened;
    }
    return check_room(state, n_tokens);
}

Result<void> read_branches(const SequenceParts& base, std::span<SequenceParts* const> states,
                           std::span<const Token> tokens, const ProgressFunction& progress) {
    const auto n_tokens = static_cast<int64_t>(tokens.size());
    if (base.status.is_broken() || base.progress.n_tokens == 0 || base.progress.n_evicted_slots > 0)
        return fail("only a sequence that holds all of a text can be branched from");
    std::vector<SequenceStatus::Step> steps;
    for (SequenceParts* state : states) {
        if (n_tokens < state->config.options.window)
            return fail(std::format("a branch of {} tokens is shorter than the window of {}", n_tokens,
                                    state->config.options.window));
        if (state->config.sums_attention() && !base.config.sums_attention())
            return fail("a branch whose scorer reads the attention of all queries needs a base whose scorer does");
        if (auto made = within_memory([&] { return make_room(*state, base.progress.n_tokens + n_tokens); }); !made)
            return made;
        state->progress.n_tokens = base.progress.n_tokens;
        if (auto checked = check_segment(*state, tokens); !checked) {
            state->progress.n_tokens = 0;
            return checked;
        }
        steps.emplace_back(state->status);
    }
    auto done = within_memory([&]() -> Result<void> {
        for (const auto& n_done : prefill(states, tokens, false, &base)) {
            if (!n_done) return std::unexpected(n_done.error());
            if (progress && !progress(*n_done, n_tokens)) return fail("cancelled");
        }
        return {};
    });
    if (done) std::ranges::for_each(steps, &SequenceStatus::Step::complete);
    return done;
}

std::generator<Result<int64_t>> read_text(std::span<SequenceParts* const> states, std::span<const Token> tokens,
                                          int64_t segment, bool all_logits) {
    if (auto prepared = prepare(states, tokens, segment, all_logits); !prepared)
        co_return co_yield std::unexpected(prepared.error());
    const auto n_tokens = static_cast<int64_t>(tokens.size());
    std::vector<SequenceStatus::Step> steps;
    for (SequenceParts* state : states) steps.emplace_back(state->status);
    bool ran_out = false;  // nothing can be yielded while the exception is caught
    try {
        for (auto n_done :
             read_segments(states, tokens, segment > 0 ? std::min(segment, n_tokens) : n_tokens, all_logits)) {
            co_yield n_done;
            if (!n_done) co_return;
        }
    } catch (const std::bad_alloc&) {
        ran_out = true;
    }
    if (ran_out) co_return co_yield out_of_memory();
    std::ranges::for_each(steps, &SequenceStatus::Step::complete);
}

}  // namespace cake
