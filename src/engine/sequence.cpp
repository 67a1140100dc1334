#include "cake/sequence.hpp"

#include <algorithm>
#include <cmath>
#include <format>
#include <new>

#include "cake/engine.hpp"
#include "engine/decode.hpp"
#include "engine/made_up.hpp"
#include "engine/prefill.hpp"
#include "engine/sequence_state.hpp"
#include "engine/session.hpp"
#include "text/sampler.hpp"

namespace cake {

namespace {

constexpr const char* kBroken = "an earlier text was not read to its end: this sequence cannot go on";

/// Everything that can be said against a segment before any work is done.
Result<void> check_segment(const SequenceState& state, std::span<const Token> tokens) {
    if (state.broken) return fail(kBroken);
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

/// Memory that runs out is an error like any other.
template <typename Work>
Result<void> within_memory(Work work) {
    try {
        return work();
    } catch (const std::bad_alloc&) {
        return fail("memory ran out: a smaller budget, batch (-b) or text needs less");
    }
}

/// Does something that leaves the states unusable where it ends halfway.
template <typename Work>
Result<void> guarded(std::span<SequenceState* const> states, Work work) {
    for (SequenceState* state : states) state->broken = true;
    auto done = within_memory(work);
    for (SequenceState* state : states) state->broken = !done.has_value();
    return done;
}

/// Computes one token. What it changes before it fails cannot be taken back.
Result<void> decode_state(SequenceState& state, Token token) {
    if (auto room = check_room(state, 1); !room) return room;
    SequenceState* const only = &state;
    return guarded({&only, 1}, [&] { return cake::decode(state, token); });
}

/// The token that generate() gave last has not been read yet: nothing had asked for its successor.
Result<void> read_pending(SequenceState& state) {
    if (!state.pending) return {};
    const Token token = *state.pending;
    if (auto checked = check_segment(state, {&token, 1}); !checked) return checked;
    if (auto read = decode_state(state, token); !read) return read;
    state.pending.reset();
    return {};
}

/// Gives the state its store where it has none yet, and makes sure that a text fits into it.
Result<void> make_room(SequenceState& state, int64_t n_tokens) {
    if (state.tokens_per_layer == 0) {
        const auto plan = plan_store(state, n_tokens);
        if (!plan) return std::unexpected(plan.error());
        if (auto opened = open_store(state, *plan); !opened) return opened;
    }
    return check_room(state, n_tokens);
}

/// One segment after another. Later ones are read over what the earlier left, which differs from state to state, so
/// several states take turns from the second on.
Result<void> read_segments(std::span<SequenceState* const> states, std::span<const Token> tokens, int64_t segment,
                           const AppendOptions& options) {
    const auto n_tokens = static_cast<int64_t>(tokens.size());
    AppendOptions of_segment = options;
    const auto read = [&](std::span<SequenceState* const> some, int64_t begin) {
        of_segment.progress = [&](int64_t done, int64_t) {
            return !options.progress || options.progress(begin + done, n_tokens);
        };
        const auto n = std::min(segment, n_tokens - begin);
        return prefill(some, tokens.subspan(static_cast<size_t>(begin), static_cast<size_t>(n)), of_segment);
    };
    if (auto first = read(states, 0); !first) return first;
    for (SequenceState* state : states) {
        for (int64_t begin = segment; begin < n_tokens; begin += segment) {
            if (auto next = read({&state, 1}, begin); !next) return next;
        }
    }
    return {};
}

/// Everything that can be refused is before the first segment is read.
Result<void> append_states(std::span<SequenceState* const> states, std::span<const Token> tokens,
                           const AppendOptions& options) {
    const auto n_tokens = static_cast<int64_t>(tokens.size());
    if (options.segment < 0) return fail("a segment must hold at least 1 token (or 0 for the whole text)");
    const int64_t segment = options.segment > 0 ? std::min(options.segment, n_tokens) : n_tokens;
    if (segment < n_tokens && options.all_logits)
        return fail("the logits of all tokens can be had of a text that is read in one segment only");
    for (SequenceState* state : states) {
        if (auto checked = check_segment(*state, tokens); !checked) return checked;
    }
    for (SequenceState* state : states) {
        auto made = within_memory([&] { return make_room(*state, n_tokens); });
        if (made) continue;
        // As if nothing had been asked.
        for (SequenceState* opened : states)
            if (opened->n_tokens == 0) close_store(*opened);
        return made;
    }
    return guarded(states, [&] { return read_segments(states, tokens, segment, options); });
}

}  // namespace

Sequence::Sequence(std::unique_ptr<SequenceState> state) : state_(std::move(state)) {}
Sequence::Sequence(Sequence&&) noexcept = default;
Sequence& Sequence::operator=(Sequence&&) noexcept = default;
Sequence::~Sequence() = default;

Result<void> Sequence::append(std::span<const Token> tokens, const AppendOptions& options) {
    if (auto read = read_pending(*state_); !read) return read;
    SequenceState* const state = state_.get();
    return append_states({&state, 1}, tokens, options);
}

Result<void> append_to_all(std::span<Sequence> sequences, std::span<const Token> tokens, const AppendOptions& options) {
    if (sequences.empty()) return fail("there is no sequence to append to");
    const auto& first = *sequences.front().state_;
    std::vector<SequenceState*> states;
    for (auto& sequence : sequences) {
        auto& s = *sequence.state_;
        if (s.n_tokens > 0) return fail("a text can be appended to several sequences only where all of them are empty");
        if (s.engine != first.engine || s.options.window != first.options.window ||
            s.shape.type_k != first.shape.type_k || s.shape.type_v != first.shape.type_v) {
            return fail("sequences that read a text together need the same engine, window and cache types");
        }
        states.push_back(&s);
    }
    return append_states(states, tokens, options);
}

Result<void> Sequence::decode(Token token) {
    if (state_->n_tokens == 0) return append({&token, 1});
    if (auto read = read_pending(*state_); !read) return read;
    if (auto checked = check_segment(*state_, {&token, 1}); !checked) return checked;
    return decode_state(*state_, token);
}

Result<void> Sequence::make_up(int64_t n_tokens) {
    SequenceState& state = *state_;
    if (state.n_tokens > 0 || state.broken) return fail("only an empty sequence can be filled with what is made up");
    constexpr int64_t kMostTokens = int64_t{1} << 28;
    if (n_tokens < 1 || n_tokens > kMostTokens)
        return fail(std::format("a made-up text of {} tokens is not possible: 1 to {} are", n_tokens, kMostTokens));
    if (state.options.max_tokens > 0 && n_tokens > state.options.max_tokens)
        return fail(std::format("a made-up text of {} tokens does not fit into the context of {}", n_tokens,
                                state.options.max_tokens));
    return within_memory([&]() -> Result<void> {
        if (auto made = make_room(state, n_tokens); !made) {
            close_store(state);
            return made;
        }
        cake::make_up(state, n_tokens);
        return {};
    });
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
        if (state.broken) {
            state.finish_reason = FinishReason::failed;
            state.error = Error{kBroken};
            co_return;
        }
        if (auto read = read_pending(state); !read) {
            state.finish_reason = FinishReason::failed;
            state.error = read.error();
            co_return;
        }
        const auto n_vocab = static_cast<size_t>(state.hparams().n_vocab);
        if (state.logits.size() < n_vocab) {
            state.finish_reason = FinishReason::failed;
            state.error = Error{"there is nothing to go on from: append a text first"};
            co_return;
        }
        const auto last = std::span(state.logits).last(n_vocab);
        // Not all_of, which would stop at the first: all of a large vocabulary are counted in a few microseconds.
        if (std::ranges::count_if(last, [](float x) { return !std::isfinite(x); }) > 0) {
            state.finish_reason = FinishReason::failed;
            state.error = Error{state.engine->file.path() +
                                ": the model computed numbers that are not finite: it, or the session, is damaged"};
            co_return;
        }
        const Token token = sampler.sample(last);
        if (!options.ignore_eos && state.engine->vocabulary.is_end_of_generation(token)) {
            state.finish_reason = FinishReason::end_of_generation;
            co_return;
        }
        state.pending = token;
        co_yield token;
    }
}

Result<void> Sequence::save(const std::string& path) const {
    return save_session(*state_, path);
}

Result<Sequence> Sequence::load(const Engine& engine, const std::string& path) {
    auto state = load_session(engine.state(), path);
    if (!state) return std::unexpected(state.error());
    return Sequence(std::move(*state));
}

const std::string& Sequence::note() const {
    return state_->note;
}
void Sequence::set_note(std::string note) {
    state_->note = std::move(note);
}
const SequenceOptions& Sequence::options() const {
    return state_->options;
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
    std::vector<LayerReport> layers;
    for (const auto& place : state_->places) {
        auto& report = layers.emplace_back();
        if (place.windowed)
            report.window = report.budget = state_->hparams().n_swa;
        else
            report = state_->layers[static_cast<size_t>(place.index)];
        if (state_->tokens_per_layer > 0) report.kept = state_->store_of(place).tokens_held(place.index);
    }
    return layers;
}

std::vector<int32_t> Sequence::positions(int32_t layer, int32_t head) const {
    const auto& s = *state_;
    if (s.tokens_per_layer == 0 || layer < 0 || layer >= s.hparams().n_layer || head < 0 || head >= s.shape.n_head_kv) {
        return {};
    }
    const auto& place = s.places[static_cast<size_t>(layer)];
    const auto held = s.store_of(place).positions(place.index, head);
    return {held.begin(), held.end()};
}

std::vector<std::vector<int32_t>> Sequence::stages() const {
    auto stages = state_->stages;
    for (auto& stage : stages)
        for (int32_t& budget : stage) budget += state_->options.window;
    return stages;
}

MemoryReport Sequence::memory() const {
    const auto& s = *state_;
    if (s.tokens_per_layer == 0) return {};
    const auto bytes_of = [](const KvShape& shape, int64_t tokens) {
        return static_cast<uint64_t>(shape.n_layer) * shape.token_bytes() * static_cast<uint64_t>(tokens);
    };
    const int64_t n_window = std::min<int64_t>(s.n_tokens, s.hparams().n_swa);
    return {.budget_tokens_per_layer = s.tokens_per_layer,
            .kv_bytes_budget = s.store.bytes_allocated() + s.windows.bytes_allocated(),
            .kv_bytes_peak = s.accountant.bytes_peak(MemoryUse::kv),
            .kv_bytes_now = s.store.bytes_used() + s.windows.bytes_used(),
            .kv_bytes_allocated = s.accountant.bytes_now(MemoryUse::kv),
            .kv_bytes_full_cache = bytes_of(s.shape, s.n_tokens) + bytes_of(s.windows_shape, n_window),
            .layer_bytes = s.layer_bytes,
            .hidden_bytes_peak = s.accountant.bytes_peak(MemoryUse::hidden),
            .compute_bytes_peak = s.accountant.bytes_peak(MemoryUse::compute)};
}

}  // namespace cake
