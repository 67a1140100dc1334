#include "serving/active_request.hpp"

#include <algorithm>
#include <exception>
#include <new>
#include <utility>

#include "engine/out_of_memory.hpp"
#include "engine/staging_layer.hpp"

namespace cake {

/// Catches exceptions, so that they end only this request.
template <typename Work>
void ActiveRequest::contain(Work work) {
    try {
        work();
    } catch (const std::bad_alloc&) {
        fail_with(out_of_memory().error());
    } catch (const std::exception& error) {
        fail_with({error.what(), Error::Code::internal});
    }
}

ActiveRequest::ActiveRequest(std::shared_ptr<const GenerationRequest> request, std::shared_ptr<EventQueue> generation,
                             std::vector<CachedSequence> sequences, size_t n_prefix, int64_t segment)
    : request_(std::move(request)),
      generation_(std::move(generation)),
      n_cached_(sequences.front().tokens.size()),
      n_prefix_(n_prefix),
      segment_(segment),
      begin_(n_cached_) {
    for (auto& sequence : sequences) {
        sequence.id = request_->id;
        states_.push_back(sequence.state.get());
        const auto& engine = *sequence.state->config.engine;
        const auto number = static_cast<int32_t>(choices_.size());
        choices_.push_back(
            {.sequence = std::move(sequence), .generator = Generator(engine, generator_options(number))});
    }
    waits_for_saved_ = n_cached_ == 0 && !request_->saved.path.empty();
    if (wants_snapshot()) n_snapshot_ = static_cast<size_t>(request_->n_messages);
    begin_reading();
}

/// A snapshot is of use if nothing is evicted behind it. Otherwise the tokens could not be taken back.
bool ActiveRequest::wants_snapshot() const {
    const auto n_prompt = std::ssize(request_->prompt);
    const auto& sequence = choices_.front().sequence;
    return choices_.size() == 1 && sequence.may_snapshot && request_->reuse && !request_->prompt_logprobs &&
           request_->n_messages < n_prompt && n_prompt <= sequence.tokens_per_layer;
}

void ActiveRequest::begin_with(const std::function<Result<void>(CachedSequence&)>& load) {
    contain([&] {
        waits_for_saved_ = false;
        prefill_.reset();  // uses the sequence
        auto& sequence = choices_.front().sequence;
        if (auto loaded = load(sequence); !loaded) return fail_with(loaded.error());
        states_ = {sequence.state.get()};
        n_cached_ = begin_ = sequence.tokens.size();
        begin_reading();
    });
}

/// Where the part of the prompt that begins at `begin_` ends: with the prefix, at the snapshot or with the prompt.
size_t ActiveRequest::end_of_part() const {
    size_t end = request_->prompt.size();
    for (const size_t n : {n_prefix_, n_snapshot_})
        if (n > begin_) end = std::min(end, n);
    return end;
}

/// Prepares the prefill of a part of the prompt.
void ActiveRequest::begin_reading() {
    LogitsWanted wanted{.all = request_->prompt_logprobs};
    if (wanted.all)
        wanted.visit = [this](int64_t token, std::span<const float> logits) { rate_prompt(token + 1, logits); };
    prefill_.emplace(states_, std::span(request_->prompt).subspan(begin_, end_of_part() - begin_), segment_,
                     std::move(wanted));
}

/// Records the log probability of token `index` of the prompt.
void ActiveRequest::rate_prompt(int64_t index, std::span<const float> logits) {
    if (index < std::ssize(request_->prompt))
        rated_.push_back(with_logprobs(0, request_->prompt[static_cast<size_t>(index)], logits, request_->n_logprobs));
}

bool ActiveRequest::has_ended() const {
    return std::ranges::all_of(choices_, &Choice::ended);
}

int64_t ActiveRequest::n_drawn() const {
    int64_t n = 0;
    for (const auto& choice : choices_) n += choice.generator.n_drawn();
    return n;
}

uint64_t ActiveRequest::staging_bytes(const KvPool& pool) const {
    const auto& sequence = choices_.front().sequence;
    int64_t n_tokens = std::ssize(request_->prompt);
    if (waits_for_saved_)
        n_tokens += request_->saved.longest_run - request_->saved.n_tokens;
    else if (n_cached_ > 0)
        n_tokens += max_held(*sequence.state) - n_cached();
    return pool.staging_bytes(sequence.state->config, sequence.tokens_per_layer, n_tokens);
}

void ActiveRequest::read_on() {
    contain([&] { read_step(); });
}

void ActiveRequest::read_step() {
    if (!prefill_) return;
    is_at_prefix_ = false;
    const auto n_read = prefill_->step();
    if (!n_read) return fail_with(n_read.error());
    n_read_ = *n_read;
    if (!prefill_->is_done()) return;
    prefill_.reset();
    if (const size_t end = end_of_part(); end < request_->prompt.size()) {
        has_read(end);
        begin_ = end;
        n_read_ = 0;
        is_at_prefix_ = end == n_prefix_;
        if (end == n_snapshot_) take_snapshot(choices_.front().sequence);
        return begin_reading();
    }
    n_read_ = static_cast<int64_t>(request_->prompt.size() - begin_);
    generation_->tell(PromptRead{.n_cached = n_cached(), .tokens = std::exchange(rated_, {})});
    has_read(request_->prompt.size());
    for (auto& choice : choices_) draw(choice);
}

/// Notes in the sequences that they hold the first `n` tokens of the prompt.
void ActiveRequest::has_read(size_t n) {
    for (auto& choice : choices_) {
        choice.sequence.tokens.assign(request_->prompt.begin(), request_->prompt.begin() + static_cast<ptrdiff_t>(n));
        choice.sequence.n_prompt = n;
    }
}

void ActiveRequest::join(std::vector<NextToken>& batch) {
    const size_t n_before = batch.size();
    contain([&] { join_choices(batch); });
    if (has_ended()) batch.resize(n_before);
}

void ActiveRequest::join_choices(std::vector<NextToken>& batch) {
    for (auto& choice : choices_) {
        if (choice.ended || !choice.next) continue;
        auto& state = *choice.sequence.state;
        if (!check_text(state, {&*choice.next, 1}) || !check_room(state, 1)) {
            end(choice, FinishReason::length);  // the context is full
            continue;
        }
        choice.step.emplace(state.status);
        if (auto room = within_memory([&] { return make_room_for_token(state); }); !room) {
            end(choice, FinishReason::failed, room.error());
            continue;
        }
        batch.push_back({.state = &state, .token = *choice.next});
    }
}

void ActiveRequest::take(const Result<void>& computed) {
    contain([&] { take_logits(computed); });
}

void ActiveRequest::take_logits(const Result<void>& computed) {
    for (auto& choice : choices_) {
        if (choice.ended || !choice.next) continue;
        if (!computed) {
            end(choice, FinishReason::failed, computed.error());
            continue;
        }
        choice.sequence.tokens.push_back(*choice.next);
        if (choice.step) choice.step->complete();
        choice.step.reset();
        choice.next.reset();
        draw(choice);
    }
}

void ActiveRequest::draw(Choice& choice) {
    const auto& state = *choice.sequence.state;
    const auto logits = std::span(state.next.logits);
    auto& generator = choice.generator;
    const auto token = generator.draw(logits);
    if (token && request_->post_sampling_probs && request_->n_logprobs >= 0)
        generation_->tell(as_drawn(index(choice), generator.probabilities(static_cast<size_t>(request_->n_logprobs))));
    else if (token)
        generation_->tell(with_logprobs(index(choice), *token, logits, request_->n_logprobs));
    // End here if the context has no room for another token.
    if (std::ssize(choice.sequence.tokens) + 1 >= state.config.options.max_tokens) generator.end(FinishReason::length);
    if (generator.has_ended()) return end(choice);
    choice.next = token;
}

/// Marks a choice as ended and reports it.
void ActiveRequest::end(Choice& choice) {
    choice.next.reset();
    const auto& ending = choice.generator.ending();
    generation_->tell(ChoiceEnded{.choice = index(choice),
                                  .reason = ending.reason,
                                  .error = ending.error,
                                  .by_constraint = ending.by_constraint});
    choice.ended = true;  // only now: if memory ran out before, the end is reported again
}

void ActiveRequest::end(Choice& choice, FinishReason reason, Error error) {
    choice.generator.end(reason, std::move(error));
    end(choice);
}

GeneratorOptions ActiveRequest::generator_options(int32_t choice) const {
    auto sampling = request_->sampling;
    constexpr uint32_t kRandom = 0xFFFFFFFF;
    if (sampling.seed != kRandom) sampling.seed = (sampling.seed + static_cast<uint32_t>(choice)) % kRandom;
    return {.sampling = std::move(sampling),
            .constraint = request_->constraint,
            .stop = request_->stop,
            .max_tokens = request_->max_tokens,
            .reasoning = request_->reasoning,
            .ignore_eos = request_->ignore_eos,
            .wants_probabilities = request_->post_sampling_probs};
}

void ActiveRequest::end_all(FinishReason reason, const Error& error) {
    prefill_.reset();
    for (auto& choice : choices_)
        if (!choice.ended) end(choice, reason, error);
}

std::vector<CachedSequence> ActiveRequest::leave() {
    prefill_.reset();  // uses the sequences
    std::vector<CachedSequence> left;
    for (auto& choice : choices_) left.push_back(std::move(choice.sequence));
    choices_.clear();
    return left;
}

}  // namespace cake
