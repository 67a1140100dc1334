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

/// One request being answered: its prompt is read in steps, then its choices get token after token.
class ActiveRequest {
  public:
    struct Choice {
        CachedSequence sequence;
        Generator generator;
        std::optional<Token> next{};                 // was drawn, and goes into the sequence with the next step
        std::optional<SequenceStatus::Step> step{};  // it is on its way there
        bool ended = false;                          // and whoever asked was told so
    };

    /// `sequences`, one for each choice, hold the first `n_cached` tokens of the prompt.
    ActiveRequest(std::shared_ptr<const GenerationRequest> request, std::shared_ptr<Generation> generation,
                  std::vector<CachedSequence> sequences, size_t n_cached, int64_t segment);
    ActiveRequest(const ActiveRequest&) = delete;
    ActiveRequest& operator=(const ActiveRequest&) = delete;

    const GenerationRequest& request() const { return *request_; }
    const Generation& generation() const { return *generation_; }
    bool is_reading() const { return prefill_.has_value(); }
    bool has_ended() const;
    int64_t n_read() const { return static_cast<int64_t>(n_cached_) + n_read_; }  // tokens' worth of work
    int64_t n_cached() const { return static_cast<int64_t>(n_cached_); }
    int64_t n_drawn() const;
    /// Bytes of the staging layer that reading the prompt takes at most.
    uint64_t staging_bytes(const KvPool& pool) const;

    /// Reads a step further, and draws the first tokens when all is read.
    void read_on();

    /// Makes room for the tokens that were drawn, and adds them to a batch.
    void join(std::vector<NextToken>& batch);
    /// After the batch was computed, or failed: draws the next tokens.
    void take(const Result<void>& computed);

    /// Ends it for all choices.
    void end_all(FinishReason reason, const std::string& error = {});

    const std::vector<Choice>& choices() const { return choices_; }
    /// What is left to go on from, when it has ended.
    std::vector<CachedSequence> leave();

  private:
    template <typename Work>
    void contain(Work work);
    void read_step();
    void join_choices(std::vector<NextToken>& batch);
    void take_logits(const Result<void>& computed);
    void draw(Choice& choice);
    GeneratorOptions generator_options(int32_t choice) const;
    void end(Choice& choice);
    void end(Choice& choice, FinishReason reason, std::string error = {});
    void fail_with(const std::string& error) { end_all(FinishReason::failed, error); }
    int32_t index(const Choice& choice) const { return static_cast<int32_t>(&choice - choices_.data()); }

    std::shared_ptr<const GenerationRequest> request_;
    std::shared_ptr<Generation> generation_;
    std::vector<Choice> choices_;
    size_t n_cached_;
    int64_t n_read_ = 0;
    std::vector<SequenceParts*> states_;  // that read together
    std::optional<TextPrefill> prefill_;  // until the prompt is read
};

}  // namespace cake
