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

/// What the batcher is asked for: so many answers to a prompt.
struct GenerationRequest {
    std::string id;
    std::string client;  // requests of one client take turns with those of others
    std::vector<Token> prompt;
    SequenceOptions sequence;
    SamplingOptions sampling;  // the seed is that of the first choice; the next has the next
    std::optional<CheckedGrammar> grammar;
    std::vector<std::string> stop;  // an answer ends with the token that completes one of these
    int32_t n_choices = 1;
    int64_t max_tokens = -1;  // -1: until the model ends, or the context
    bool ignore_eos = false;  // no token that ends the text is drawn, but where a grammar lets nothing else follow
    int32_t n_logprobs = -1;  // likeliest tokens that are told with each; -1: not even its own probability
    bool reuse = true;        // go on from what is in memory of a text that the prompt begins with
};

struct TokenLogprob {
    Token token = 0;
    float logprob = 0;
};

/// The prompt has been read; `n_cached` of its tokens were in memory.
struct PromptRead {
    int64_t n_cached = 0;
};

struct TokenDrawn {
    int32_t choice = 0;
    Token token = 0;
    float logprob = 0;                    // of the softmax of the model's logits, where asked for
    std::vector<TokenLogprob> likeliest;  // most likely first
};

struct ChoiceEnded {
    int32_t choice = 0;
    FinishReason reason = FinishReason::length;
    std::string error;        // where it failed
    bool by_grammar = false;  // failed since the grammar leaves nothing to go on with
};

struct GenerationEvent {
    std::variant<PromptRead, TokenDrawn, ChoiceEnded> what;
    std::chrono::steady_clock::time_point when;
};

/// One request on its way, shared by the thread that asked and the batcher's.
class Generation {
  public:
    /// The next event; none where nothing has happened within `most`.
    std::optional<GenerationEvent> next(std::chrono::milliseconds most);
    /// Nobody wants it any more: it ends within one step.
    void cancel() { cancelled_ = true; }

    bool cancelled() const { return cancelled_; }
    void tell(decltype(GenerationEvent::what) what);

  private:
    std::mutex mutex_;
    std::condition_variable told_;
    std::deque<GenerationEvent> events_;
    std::atomic<bool> cancelled_ = false;
};

/// The logarithm of a token's probability, and the `n` likeliest tokens with theirs.
TokenDrawn with_logprobs(int32_t choice, Token token, std::span<const float> logits, int32_t n);

}  // namespace cake
