#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cake/sequence.hpp"
#include "engine/engine_state.hpp"
#include "text/answer_text.hpp"
#include "text/reasoning_budget.hpp"
#include "text/sampler.hpp"

namespace cake {

/// Sampling and limits of one generated text.
struct GeneratorOptions {
    SamplingOptions sampling{};
    std::optional<Constraint> constraint{};  // what the text must be
    std::vector<std::string> stop{};         // the text ends with the token that completes one of these
    int64_t max_tokens = -1;                 // -1: no limit
    std::optional<ReasoningLimit> reasoning{};
    bool ignore_eos = false;           // draw no end-of-generation token, unless the constraint allows no other
    bool wants_probabilities = false;  // probabilities() is called after each token
};

/// Draws the tokens of one text and determines when it ends. It computes no logits and touches no cache.
class Generator {
  public:
    struct Ending {
        FinishReason reason = FinishReason::length;
        Error error{};               // set if generation failed
        bool by_constraint = false;  // true if it failed because the constraint allows no further token
    };

    /// `engine` must outlive the generator. The sampler is created with the first token, because a compiled grammar may
    /// be large and a request may wait long.
    Generator(const EngineState& engine, GeneratorOptions options);

    /// Draws the next token. Returns nothing if the text ends without another token. has_ended() is true as soon as the
    /// last token has been returned.
    /// `logits`: [n_vocab] after the previous token.
    std::optional<Token> draw(std::span<const float> logits);
    /// Ends the text for a reason outside the generator. Does nothing if it has ended already.
    void end(FinishReason reason, Error error = {});

    /// Probabilities that the token drawn last was drawn with (Sampler::probabilities()).
    std::vector<TokenProbability> probabilities(size_t n) const { return sampler_->probabilities(n); }

    bool has_ended() const { return has_ended_; }
    const Ending& ending() const { return ending_; }  // requires has_ended()
    int64_t n_drawn() const { return n_drawn_; }

  private:
    void end_with(Ending ending);
    Result<void> make_sampler();
    Result<Token> next(std::span<const float> logits);

    const EngineState& engine_;
    GeneratorOptions options_;
    std::unique_ptr<Sampler> sampler_;
    std::optional<ReasoningBudget> reasoning_;
    AnswerText text_;  // finds stop strings
    int64_t n_drawn_ = 0;
    bool has_ended_ = false;
    Ending ending_;
};

}  // namespace cake
