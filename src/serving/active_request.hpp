#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/decode.hpp"
#include "engine/generator.hpp"
#include "engine/text_prefill.hpp"
#include "serving/cached_sequence.hpp"
#include "serving/generation.hpp"
#include "serving/kv_pool.hpp"

namespace cake {

/// A running request: its prompt is prefilled in steps, then its choices are decoded token by token.
class ActiveRequest {
  public:
    struct Choice {
        CachedSequence sequence;
        Generator generator;
        std::optional<Token> next{};                 // token drawn last, decoded with the next batch
        std::optional<SequenceStatus::Step> step{};  // set while `next` is being decoded
        bool ended = false;                          // true after ChoiceEnded has been reported
    };

    /// `sequences`: one for each choice, each holding the first `n_cached` tokens of the prompt. `segment`: tokens to
    /// prefill at a time; 0: all.
    ActiveRequest(std::shared_ptr<const GenerationRequest> request, std::shared_ptr<EventQueue> generation,
                  std::vector<CachedSequence> sequences, size_t n_cached, int64_t segment);
    ActiveRequest(const ActiveRequest&) = delete;
    ActiveRequest& operator=(const ActiveRequest&) = delete;

    const GenerationRequest& request() const { return *request_; }
    const EventQueue& generation() const { return *generation_; }
    bool is_reading() const { return prefill_.has_value(); }
    bool has_ended() const;
    /// Prompt tokens prefilled so far, cached ones included.
    int64_t n_read() const { return static_cast<int64_t>(n_cached_) + n_read_; }
    int64_t n_cached() const { return static_cast<int64_t>(n_cached_); }
    int64_t n_drawn() const;
    /// Maximum size of the staging layer during the prefill, in bytes.
    uint64_t staging_bytes(const KvPool& pool) const;

    /// Runs one prefill step. After the last one, draws the first token of each choice.
    void read_on();

    /// Makes room in the sequences for the tokens drawn last and adds these tokens to `batch`.
    void join(std::vector<NextToken>& batch);
    /// Draws the next tokens after the batch has been computed, or ends the choices if it failed.
    void take(const Result<void>& computed);

    /// Ends all choices that have not ended yet.
    void end_all(FinishReason reason, const Error& error = {});

    const std::vector<Choice>& choices() const { return choices_; }
    /// Moves out the sequences after the request has ended, so that they can be cached.
    std::vector<CachedSequence> leave();

  private:
    template <typename Work>
    void contain(Work work);
    void read_step();
    void join_choices(std::vector<NextToken>& batch);
    void take_logits(const Result<void>& computed);
    void rate_prompt(int64_t index, std::span<const float> logits);
    void draw(Choice& choice);
    GeneratorOptions generator_options(int32_t choice) const;
    void end(Choice& choice);
    void end(Choice& choice, FinishReason reason, Error error = {});
    void fail_with(const Error& error) { end_all(FinishReason::failed, error); }
    int32_t index(const Choice& choice) const { return static_cast<int32_t>(&choice - choices_.data()); }

    std::shared_ptr<const GenerationRequest> request_;
    std::shared_ptr<EventQueue> generation_;
    std::vector<Choice> choices_;
    size_t n_cached_;
    int64_t n_read_ = 0;
    std::vector<SequenceParts*> states_;  // sequences of the choices, which share the prefill
    std::vector<TokenDrawn> rated_;       // tokens of the prompt with log probabilities, if they are reported
    std::optional<TextPrefill> prefill_;  // reset when the prefill is done
};

}  // namespace cake
