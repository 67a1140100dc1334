#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "cake/sampling.hpp"
#include "cake/sequence.hpp"
#include "text/grammar.hpp"

namespace cake {

/// A request to the batcher: a prompt and the number of answers to generate.
struct GenerationRequest {
    std::string id;
    std::string client;  // waiting requests of different clients take turns
    std::vector<Token> prompt;
    SequenceOptions sequence;
    SamplingOptions sampling;  // each further choice uses the next seed
    std::optional<CheckedGrammar> grammar;
    std::vector<std::string> stop;  // an answer ends with the token that completes one of these
    int32_t n_choices = 1;
    int64_t max_tokens = -1;  // -1: until the model ends the text or the context is full
    bool ignore_eos = false;  // draw no end-of-generation token, unless the grammar allows no other
    int32_t n_logprobs = -1;  // number of likeliest tokens to report with each token; -1: no log probabilities at all
    bool reuse = true;        // continue from a cached sequence if the prompt begins with its text
};

struct TokenLogprob {
    Token token = 0;
    float logprob = 0;
};

/// The prefill of the prompt is done. `n_cached`: number of prompt tokens that came from a cached sequence.
struct PromptRead {
    int64_t n_cached = 0;
};

struct TokenDrawn {
    int32_t choice = 0;
    Token token = 0;
    float logprob = 0;                    // log of the softmax of the model's logits, if requested
    std::vector<TokenLogprob> likeliest;  // most likely first
};

struct ChoiceEnded {
    int32_t choice = 0;
    FinishReason reason = FinishReason::length;
    std::string error;        // set if it failed
    bool by_grammar = false;  // true if it failed because the grammar allows no further token
};

struct GenerationEvent {
    std::variant<PromptRead, TokenDrawn, ChoiceEnded> what;
    std::chrono::steady_clock::time_point when;
};

/// Events of one submitted request, shared by the submitting thread and the batcher's thread.
class Generation {
  public:
    /// Waits for the next event, at most for `most`. Returns nothing if there is none.
    std::optional<GenerationEvent> next(std::chrono::milliseconds most);
    /// Cancels the request; it ends within one step.
    void cancel() { cancelled_ = true; }

    bool cancelled() const { return cancelled_; }
    void tell(decltype(GenerationEvent::what) what);

  private:
    std::mutex mutex_;
    std::condition_variable told_;
    std::deque<GenerationEvent> events_;
    std::atomic<bool> cancelled_ = false;
};

/// Returns a drawn token with its log probability, and the `n` likeliest tokens with theirs. `logits`: [n_vocab].
/// If `n` is negative, there are no log probabilities.
TokenDrawn with_logprobs(int32_t choice, Token token, std::span<const float> logits, int32_t n);

}  // namespace cake
