#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "cake/batcher.hpp"
#include "text/sampler.hpp"

namespace cake {

/// Passes the events of one request from the batcher's thread to the thread that submitted it.
class EventQueue final : public Generation {
  public:
    explicit EventQueue(int32_t n_choices) : n_open_(n_choices), is_open_(static_cast<size_t>(n_choices), true) {}

    std::optional<GenerationEvent> next(std::chrono::milliseconds most) override;
    std::optional<GenerationEvent> next() override;
    void cancel() override { cancelled_ = true; }

    bool cancelled() const { return cancelled_; }
    void tell(decltype(GenerationEvent::what) what);
    /// Ends the choices that have not ended.
    void fail(const Error& error);

  private:
    void add(decltype(GenerationEvent::what) what);
    std::optional<GenerationEvent> take();

    std::mutex mutex_;
    std::condition_variable told_;
    std::deque<GenerationEvent> events_;
    int32_t n_open_;             // choices whose end has not been taken yet
    std::vector<bool> is_open_;  // choices whose end has not been told yet
    std::atomic<bool> cancelled_ = false;
};

/// Returns a drawn token with its log probability, and the `n` likeliest tokens with theirs. `logits`: [n_vocab].
/// If `n` is negative, there are no log probabilities.
TokenDrawn with_logprobs(int32_t choice, Token token, std::span<const float> logits, int32_t n);
/// The same with the probabilities of a sampler: that of the token itself first, then those of the likeliest.
TokenDrawn as_drawn(int32_t choice, std::span<const TokenProbability> probabilities);

}  // namespace cake
