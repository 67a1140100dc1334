#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cake/sequence.hpp"
#include "engine/engine_state.hpp"
#include "text/answer_text.hpp"
#include "text/sampler.hpp"

namespace cake {

/// What bounds and shapes a generated text.
struct GeneratorOptions {
    SamplingOptions sampling{};
    std::optional<CheckedGrammar> grammar{};  // that the text keeps to
    std::vector<std::string> stop{};          // the text ends with the token that completes one of these
    int64_t max_tokens = -1;                  // -1: no limit
    bool ignore_eos = false;  // no token that ends the text is drawn, unless the grammar allows no other
};

/// Draws the tokens of one text, and knows when it ends. It computes no logits and touches no cache.
class Generator {
  public:
    struct Ending {
        FinishReason reason = FinishReason::length;
        Error error{};            // if it failed
        bool by_grammar = false;  // failed because the grammar allows nothing that could follow
    };

    /// `engine` outlives it. The sampler is made with the first token: a grammar may be large, and a request wait long.
    Generator(const EngineState& engine, GeneratorOptions options);

    /// The next token, by the logits after the one before, [n_vocab]; none if the text ended without one more. The last
    /// token comes together with the ending.
    std::optional<Token> draw(std::span<const float> logits);
    /// Ends the text from outside, unless it has ended.
    void end(FinishReason reason, Error error = {});

    bool has_ended() const { return ending_.has_value(); }
    const Ending& ending() const { return *ending_; }  // only if it has
    int64_t n_drawn() const { return n_drawn_; }

  private:
    Result<void> make_sampler();

    const EngineState& engine_;
    GeneratorOptions options_;
    std::optional<Sampler> sampler_;
    AnswerText text_;  // as far as it may end at a stop string
    int64_t n_drawn_ = 0;
    std::optional<Ending> ending_;
};

}  // namespace cake
