#include "cake/sequence.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "cake/engine.hpp"
#include "cake/made_up.hpp"
#include "cake/policy.hpp"
#include "engine/decode.hpp"
#include "engine/generator.hpp"
#include "engine/made_up.hpp"
#include "engine/out_of_memory.hpp"
#include "engine/position_attention.hpp"
#include "engine/reports.hpp"
#include "engine/sequence_parts.hpp"
#include "engine/session.hpp"
#include "engine/text_prefill.hpp"
#include "memory/session_file.hpp"

namespace cake {

namespace {

/// Decodes one token in each sequence. If this fails after a sequence has begun to change, the sequence is broken.
Result<void> decode_states(std::span<const NextToken> batch) {
    for (const auto& next : batch)
        if (auto room = check_room_for_token(*next.state); !room) return room;
    SequenceParts& first = *batch.front().state;
    if (!first.decoder) first.decoder = std::make_unique<Decoder>(first.config.engine->compute, first.accountant);
    std::vector<SequenceStatus::Step> steps;
    auto done = within_memory([&] -> Result<void> {
        steps.reserve(batch.size());
        for (const auto& next : batch) steps.emplace_back(next.state->status);
        for (const auto& next : batch)
            if (auto room = make_room_for_token(*next.state); !room) return room;
        return first.decoder->decode(batch);
    });
    if (done) std::ranges::for_each(steps, &SequenceStatus::Step::complete);
    return done;
}

Result<void> decode_state(SequenceParts& state, Token token) {
    const NextToken next{.state = &state, .token = token};
    return decode_states({&next, 1});
}

/// Decodes the last generated token if it has not been passed through the model yet.
Result<void> read_pending(SequenceParts& state) {
    if (!state.next.pending) return {};
    const Token token = *state.next.pending;
    if (auto checked = check_text(state, {&token, 1}); !checked) return checked;
    if (auto read = decode_state(state, token); !read) return read;
    state.next.pending.reset();
    return {};
}

/// Draws the next token of the sequence. It becomes the pending token, which is decoded when the token after it is
/// requested.
std::optional<Token> draw_next(SequenceParts& state, Generator& generator) {
    const auto ready = [&] -> Result<void> {
        if (auto checked = state.status.check(); !checked) return checked;
        if (auto read = read_pending(state); !read) return read;
        if (state.next.logits.empty()) return fail("there is nothing to continue: append a text first");
        return {};
    };
    if (auto is_ready = ready(); !is_ready) {
        generator.end(FinishReason::failed, is_ready.error());
        return std::nullopt;
    }
    const auto n_vocab = static_cast<size_t>(state.config.hparams().n_vocab);
    const auto token = generator.draw(std::span(state.next.logits).last(n_vocab));
    if (token) state.next.pending = token;
    return token;
}

Result<void> append_states(std::span<SequenceParts* const> states, std::span<const Token> tokens,
                           const AppendOptions& options) {
    const auto n_tokens = static_cast<int64_t>(tokens.size());
    TextPrefill prefill(states, tokens, options.segment, {.all = options.all_logits});
    return run_steps(prefill, options.progress, n_tokens);
}

/// Checks that `states` can share a prefill.
Result<void> check_alike(const SequenceParts& first, std::span<SequenceParts* const> states) {
    for (const SequenceParts* s : states) {
        if (s->progress.n_tokens > 0)
            return fail("a text can be appended to several sequences only if all of them are empty");
        if (s->config.engine != first.config.engine || s->config.options.window != first.config.options.window ||
            s->config.layout.sliced.type_k != first.config.layout.sliced.type_k ||
            s->config.layout.sliced.type_v != first.config.layout.sliced.type_v) {
            return fail("sequences that read a text together need the same engine, window and cache types");
        }
    }
    return {};
}

}  // namespace

Sequence::Sequence(std::unique_ptr<SequenceParts> state) : state_(std::move(state)) {}
Sequence::Sequence(Sequence&&) noexcept = default;
Sequence& Sequence::operator=(Sequence&&) noexcept = default;
Sequence::~Sequence() = default;

Result<void> Sequence::append(std::span<const Token> tokens, const AppendOptions& options) {
    if (auto read = read_pending(*state_); !read) return read;
    SequenceParts* const state = state_.get();
    return append_states({&state, 1}, tokens, options);
}

Result<void> append_to_all(std::span<Sequence> sequences, std::span<const Token> tokens, const AppendOptions& options) {
    if (sequences.empty()) return fail("there is no sequence to append to");
    std::vector<SequenceParts*> states;
    for (auto& sequence : sequences) states.push_back(sequence.state_.get());
    if (auto checked = check_alike(*states.front(), states); !checked) return checked;
    return append_states(states, tokens, options);
}

Result<Sequence> branch_base(const Engine& engine, std::span<const Sequence> sequences, int64_t n_tokens) {
    if (sequences.empty()) return fail("there is no sequence to branch to");
    const auto reads_all = [](const Sequence& sequence) { return sequence.state_->config.sums_attention(); };
    const auto reader = std::ranges::find_if(sequences, reads_all);
    SequenceOptions options = reader == sequences.end() ? sequences.front().options() : reader->options();
    if (reader == sequences.end()) {
        options.policy = kFullPolicy;
        options.scorer.clear();
        options.allocator.clear();
        options.budget.reset();
    } else {
        options.budget = TokensPerLayer{std::max<int64_t>(n_tokens, int64_t{options.window} + 2)};
    }
    options.max_tokens = n_tokens;
    return engine.sequence(options);
}

Result<void> branch_to_all(const Sequence& base, std::span<Sequence> sequences, std::span<const Token> tokens,
                           const ProgressFunction& progress) {
    if (sequences.empty()) return fail("there is no sequence to append to");
    std::vector<SequenceParts*> states;
    for (auto& sequence : sequences) states.push_back(sequence.state_.get());
    if (auto checked = check_alike(*base.state_, states); !checked) return checked;
    return read_branches(*base.state_, states, tokens, progress);
}

Result<void> Sequence::decode(Token token) {
    if (state_->progress.n_tokens == 0) return append({&token, 1});
    if (auto read = read_pending(*state_); !read) return read;
    if (auto checked = check_text(*state_, {&token, 1}); !checked) return checked;
    return decode_state(*state_, token);
}

Result<Sequence> fork(const Sequence& sequence) {
    const SequenceParts& from = *sequence.state_;
    if (auto checked = from.status.check(); !checked) return std::unexpected(checked.error());
    auto made = make_sequence(from.config.engine, from.config.options);
    if (!made) return std::unexpected(made.error());
    if (from.cache.is_open()) {
        auto copied = within_memory([&] { return (*made)->copy_text(from, from.cache.plan); });
        if (!copied) return std::unexpected(copied.error());
        for (const auto store : {&SequenceCache::sliced, &SequenceCache::sliding}) {
            std::vector<int32_t> capacities;
            for (const int32_t layer : (from.cache.*store).layers())
                for (const Run& run : (from.cache.*store).runs(layer)) capacities.push_back(run.capacity);
            if (!capacities.empty()) ((*made)->cache.*store).arrange(capacities);
        }
    }
    (*made)->next = from.next;
    (*made)->note = from.note;
    return Sequence(std::move(*made));
}

Result<void> decode_each(std::span<Sequence* const> sequences, std::span<const Token> tokens) {
    if (sequences.empty() || sequences.size() != tokens.size())
        return fail("decoding in several sequences needs one token for each of them");
    std::vector<NextToken> batch;
    for (size_t i = 0; i < sequences.size(); i++) {
        SequenceParts& state = *sequences[i]->state_;
        if (state.config.engine != sequences.front()->state_->config.engine || state.progress.n_tokens == 0)
            return fail("sequences that decode together need the same engine, and none of them may be empty");
        if (std::ranges::contains(sequences.first(i), sequences[i]))
            return fail("a sequence decodes one token at a time: name it once");
        if (auto read = read_pending(state); !read) return read;
        if (auto checked = check_text(state, tokens.subspan(i, 1)); !checked) return checked;
        batch.push_back({.state = &state, .token = tokens[i]});
    }
    return decode_states(batch);
}

Result<void> make_up(Sequence& sequence, int64_t n_tokens) {
    SequenceParts& state = *sequence.state_;
    if (state.progress.n_tokens > 0 || state.status.is_broken())
        return fail("only an empty sequence can be filled with a made-up text");
    constexpr int64_t kMaxTokens = int64_t{1} << 28;
    if (n_tokens < 1 || n_tokens > kMaxTokens)
        return fail(fmt::format("a made-up text of {} tokens is not possible: use 1 to {}", n_tokens, kMaxTokens));
    if (state.config.options.max_tokens > 0 && n_tokens > state.config.options.max_tokens)
        return fail(fmt::format("a made-up text of {} tokens does not fit into the context of {}", n_tokens,
                                state.config.options.max_tokens));
    return within_memory([&] -> Result<void> {
        if (auto made = make_room(state, n_tokens); !made) {
            state.close_cache();
            return made;
        }
        make_up(state, n_tokens);
        return {};
    });
}

Stream<Token> Sequence::generate(GenerateOptions options) {
    SequenceParts* const parts = state_.get();
    const auto generator =
        std::make_shared<Generator>(*parts->config.engine, GeneratorOptions{.sampling = std::move(options.sampling),
                                                                            .constraint = std::move(options.constraint),
                                                                            .stop = std::move(options.stop),
                                                                            .max_tokens = options.max_tokens,
                                                                            .ignore_eos = options.ignore_eos});
    parts->finish_reason = FinishReason::length;
    return Stream<Token>([=, cancelled = std::move(options.cancelled)] -> std::optional<Token> {
        if (generator->has_ended()) return std::nullopt;
        const auto token = cancelled && cancelled() ? (generator->end(FinishReason::cancelled), std::nullopt)
                                                    : draw_next(*parts, *generator);
        if (generator->has_ended()) {
            parts->finish_reason = generator->ending().reason;
            parts->error = generator->ending().error;
        }
        return token;
    });
}

Result<void> Sequence::save(const std::string& path, const SaveOptions& options) const {
    return save_session(*state_, path, options);
}

Result<Sequence> Sequence::load(const Engine& engine, const std::string& path, int64_t n_more) {
    constexpr int64_t kMaxTokens = int64_t{1} << 28;
    if (n_more < 0 || n_more > kMaxTokens)
        return fail(fmt::format("{} more tokens per layer are not possible: use 0 to {}", n_more, kMaxTokens));
    auto state = load_session(EngineAccess::state(engine), path, {.n_more = n_more});
    if (!state) return std::unexpected(state.error());
    return Sequence(std::move(*state));
}

bool is_session_file(const std::string& path) {
    return begins_like_session(path);
}

const std::string& Sequence::note() const {
    return state_->note;
}
void Sequence::set_note(std::string note) {
    state_->note = std::move(note);
}
const SequenceOptions& Sequence::options() const {
    return state_->config.options;
}

FinishReason Sequence::finish_reason() const {
    return state_->finish_reason;
}
const Error& Sequence::error() const {
    return state_->error;
}
std::span<const float> Sequence::logits() const {
    return state_->next.logits;
}
int64_t Sequence::n_tokens() const {
    return state_->progress.n_tokens;
}

std::vector<LayerReport> Sequence::layers() const {
    return layer_reports(*state_);
}

std::vector<int32_t> Sequence::positions(int32_t layer, int32_t head) const {
    const auto& s = *state_;
    const auto& h = s.config.hparams();
    if (!s.cache.is_open() || layer < 0 || layer >= h.n_layer || !s.config.layout.holds_tokens(layer)) return {};
    if (head < 0 || head >= s.cache.of(layer).shape().n_head_kv) return {};
    const auto held = s.cache.of(layer).positions(layer, head);
    return {held.begin(), held.end()};
}

Result<std::vector<float>> Sequence::attention_by_position(int64_t n_queries) const {
    return within_memory([&] { return cake::attention_by_position(*state_, n_queries); });
}

std::vector<std::vector<int32_t>> Sequence::stages() const {
    auto stages = state_->report.stages;
    for (auto& stage : stages)
        for (int32_t& budget : stage) budget += state_->config.options.window;
    return stages;
}

MemoryReport Sequence::memory() const {
    return memory_report(*state_);
}

}  // namespace cake
