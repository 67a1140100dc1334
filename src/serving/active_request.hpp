#pragma once

#include <cstdint>
#include <functional>
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

    /// `sequences`: one for each choice; each may hold the beginning of the prompt. `n_prefix`: the first tokens of the
    /// prompt, which get a prefill of their own; 0: none. `segment`: tokens to prefill at a time; 0: all.
    ActiveRequest(std::shared_ptr<const GenerationRequest> request, std::shared_ptr<EventQueue> generation,
                  std::vector<CachedSequence> sequences, size_t n_prefix, int64_t segment);
    ActiveRequest(const ActiveRequest&) = delete;
    ActiveRequest& operator=(const ActiveRequest&) = delete;

    const GenerationRequest& request() const { return *request_; }
    const EventQueue& generation() const { return *generation_; }
    bool is_reading() const { return prefill_.has_value(); }
    bool has_ended() const;
    /// Prompt tokens prefilled so far, cached ones included.
    int64_t n_read() const { return static_cast<int64_t>(begin_) + n_read_; }
    int64_t n_cached() const { return static_cast<int64_t>(n_cached_); }
    /// True if the last step has read the prefix to its end, and nothing behind it has been read yet.
    bool is_at_prefix() const { return is_at_prefix_; }
    int64_t n_drawn() const;
    /// Maximum size of the staging layer during the prefill, in bytes.
    uint64_t staging_bytes(const KvPool& pool) const;

    /// True if the prompt begins with a saved text that has not been loaded yet.
    bool waits_for_saved() const { return waits_for_saved_; }
    /// Lets `load` fill the sequence with the saved text. If this fails, the request ends.
    void begin_with(const std::function<Result<void>(CachedSequence&)>& load);

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
    void begin_reading();
    size_t end_of_part() const;
    bool wants_snapshot() const;
    void has_read(size_t n);
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
    const size_t n_prefix_;
    size_t n_snapshot_ = 0;  // tokens of the prompt after which a snapshot is taken; 0: none
    const int64_t segment_;
    size_t begin_;        // first token of the part of the prompt that is being read
    int64_t n_read_ = 0;  // tokens of this part that have been read
    bool is_at_prefix_ = false;
    bool waits_for_saved_ = false;
    std::vector<SequenceParts*> states_;  // sequences of the choices, which share the prefill
    std::vector<TokenDrawn> rated_;       // tokens of the prompt with log probabilities, if they are reported
    std::optional<TextPrefill> prefill_;  // reset when the prefill is done
};

}  // namespace cake
