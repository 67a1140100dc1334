#include "engine/text_prefill.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "engine/out_of_memory.hpp"

namespace cake {

Result<void> check_text(const SequenceParts& state, std::span<const Token> tokens) {
    if (auto checked = state.status.check(); !checked) return checked;
    if (tokens.empty()) return fail("there is nothing to read: the text contains no tokens");
    const int32_t n_vocab = state.config.hparams().n_vocab;
    const auto outside = std::ranges::find_if(tokens, [&](Token t) { return t < 0 || t >= n_vocab; });
    if (outside != tokens.end())
        return fail(fmt::format("the token {} is outside the vocabulary of {}", *outside, n_vocab));
    constexpr int64_t kMaxTokens = int64_t{1} << 28;
    const int64_t limit = state.config.options.max_tokens > 0 ? state.config.options.max_tokens : kMaxTokens;
    const int64_t wanted = state.progress.n_tokens + static_cast<int64_t>(tokens.size());
    if (wanted > limit) {
        return fail(fmt::format(
            "the text reaches {} tokens and the context holds {}: use a larger context (-c) or a shorter text", wanted,
            limit));
    }
    return {};
}

Result<void> check_room(const SequenceParts& state, int64_t n_more) {
    const int64_t most = state.config.hparams().max_positions();
    if (most > 0 && state.progress.n_tokens + n_more > most) {
        return fail(fmt::format("the text reaches {} tokens, and this model has learned only {} positions",
                                state.progress.n_tokens + n_more, most));
    }
    if (state.config.evicts() || state.progress.n_tokens + n_more <= state.cache.plan.tokens_per_layer) return {};
    return fail(fmt::format("the context of {} tokens is full: use a larger one (-c) or a policy that evicts",
                            state.cache.plan.tokens_per_layer));
}

Result<void> make_room(SequenceParts& state, int64_t n_tokens) {
    if (!state.cache.is_open()) {
        const auto plan = state.config.plan(n_tokens);
        if (!plan) return std::unexpected(plan.error());
        if (auto opened = state.open_cache(*plan); !opened) return opened;
    }
    return check_room(state, n_tokens);
}

TextPrefill::TextPrefill(std::span<SequenceParts* const> sequences, std::span<const Token> tokens, int64_t segment,
                         LogitsWanted wanted)
    : sequences_(sequences), tokens_(tokens), segment_(segment), wanted_(std::move(wanted)) {}

/// Makes all checks and opens the caches. On error, the sequences are unchanged.
Result<void> TextPrefill::prepare() {
    const int64_t n_tokens = std::ssize(tokens_);
    if (segment_ < 0) return fail("a segment must hold at least 1 token (or 0 for the whole text)");
    if (segment_ > 0 && segment_ < n_tokens && wanted_.all && !wanted_.visit)
        return fail("the logits of all tokens are available only for a text that is read in one segment");
    for (const SequenceParts* sequence : sequences_) {
        if (auto checked = check_text(*sequence, tokens_); !checked) return checked;
    }
    for (SequenceParts* sequence : sequences_) {
        auto made = within_memory([&] { return make_room(*sequence, n_tokens); });
        if (made) continue;
        for (SequenceParts* opened : sequences_)
            if (opened->progress.n_tokens == 0) opened->close_cache();
        return made;
    }
    for (SequenceParts* sequence : sequences_) steps_.emplace_back(sequence->status);
    return {};
}

void TextPrefill::begin_segment() {
    const int64_t n_left = std::ssize(tokens_) - begin_;
    const int64_t n = segment_ > 0 ? std::min(segment_, n_left) : n_left;
    const auto readers = begin_ == 0 ? sequences_ : sequences_.subspan(sequence_, 1);
    LogitsWanted wanted{.all = wanted_.all};
    if (wanted_.visit && readers.front() == sequences_.front())
        wanted.visit = [visit = wanted_.visit, begin = begin_](int64_t token, std::span<const float> logits) {
            visit(begin + token, logits);
        };
    else
        wanted.all = wanted.all && !wanted_.visit;
    prefill_ = std::make_unique<Prefill>(readers, tokens_.subspan(static_cast<size_t>(begin_), static_cast<size_t>(n)),
                                         std::move(wanted));
}

Result<int64_t> TextPrefill::step() {
    auto done = within_memory([this] { return take_step(); });
    if (!done) {
        is_done_ = true;
        prefill_.reset();
    }
    return done;
}

/// Later segments attend to the tokens kept from earlier ones, which differ between sequences. From the second segment
/// on, the sequences are therefore prefilled one after another.
Result<int64_t> TextPrefill::take_step() {
    if (is_done_) return std::ssize(tokens_);
    if (steps_.empty()) {
        if (auto prepared = prepare(); !prepared) return std::unexpected(prepared.error());
        begin_segment();
    }
    const auto n_done = prefill_->step();
    if (!n_done) return n_done;
    const int64_t n_after = begin_ + *n_done;
    if (!prefill_->is_done()) return n_after;
    prefill_.reset();
    if (n_after < std::ssize(tokens_)) {
        begin_ = n_after;
    } else {
        // The next sequence continues after the first segment, which all sequences share.
        sequence_ = begin_ == 0 ? sequences_.size() : sequence_ + 1;
        begin_ = segment_;
    }
    if (sequence_ < sequences_.size()) {
        begin_segment();
    } else {
        std::ranges::for_each(steps_, &SequenceStatus::Step::complete);
        is_done_ = true;
    }
    return n_after;
}

Result<void> read_branches(const SequenceParts& base, std::span<SequenceParts* const> states,
                           std::span<const Token> tokens, const ProgressFunction& progress) {
    const auto n_tokens = static_cast<int64_t>(tokens.size());
    if (base.status.is_broken() || base.progress.n_tokens == 0 || base.progress.n_evicted_slots > 0)
        return fail("only a sequence that holds all of its text can be branched from");
    for (const SequenceParts* state : states) {
        if (state->config.evicts() && state->config.scorer().reads.whole_text())
            return fail(fmt::format("the scorer {} reads the whole text, so its text cannot be branched from",
                                    state->config.scorer().name));
    }
    std::vector<SequenceStatus::Step> steps;
    steps.reserve(states.size());
    for (SequenceParts* state : states) {
        if (n_tokens < state->config.options.window)
            return fail(fmt::format("a branch of {} tokens is shorter than the window of {}", n_tokens,
                                    state->config.options.window));
        if (state->config.sums_attention() && !base.config.sums_attention())
            return fail("a branch whose scorer reads the attention of all queries needs a base whose scorer does");
        if (auto made = within_memory([&] { return make_room(*state, base.progress.n_tokens + n_tokens); }); !made)
            return made;
        state->progress.n_tokens = base.progress.n_tokens;
        if (auto checked = check_text(*state, tokens); !checked) {
            state->progress.n_tokens = 0;
            return checked;
        }
        steps.emplace_back(state->status);
    }
    auto done = within_memory([&] -> Result<void> {
        Prefill prefill(states, tokens, {}, &base);
        return run_steps(prefill, progress, n_tokens);
    });
    if (done) std::ranges::for_each(steps, &SequenceStatus::Step::complete);
    return done;
}

}  // namespace cake
