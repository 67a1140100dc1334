#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>

namespace cake {

/// How long prompts may be read between two steps of decoding, so that the time between two tokens is hardly twice what
/// it is while nothing is read; and which of two prompts is read. Arithmetic on measured seconds, no clock.
class PrefillPacer {
  public:
    /// A step of decoding gave `n_sequences` a token each, in `seconds`; 0 sequences: nobody generates.
    void decoded(size_t n_sequences, double seconds);
    /// Whether nobody generates: then prompts are read a step at a time, without limit.
    bool is_idle() const { return is_idle_; }
    /// Whether another step of prefill may be taken before the next step of decoding.
    bool may_read() const { return is_idle_ || credit_seconds_ > 0; }
    /// A step of prefill took `seconds`, of the prompt that came first or of another. It may take longer than there was
    /// time for; the next steps of decoding make up for that.
    void read(double seconds, bool of_first);

    /// Whether the shortest prompt is to be read instead of the first. They get equally much time: short prompts do not
    /// wait for long ones to end, nor these for ever for short ones.
    bool prefers_shortest() const { return balance_seconds_ > 0; }
    /// Another prompt is the first now, or the first is the shortest.
    void forget_balance() { balance_seconds_ = 0; }

  private:
    /// Of the last values, about a hundred.
    struct Mean {
        double value = 0;
        int64_t n = 0;
        void add(double next) {
            constexpr int64_t kMaxValues = 100;
            n = std::min(n + 1, kMaxValues);
            value += (next - value) / static_cast<double>(n);
        }
    };
    struct StepSeconds {
        Mean alone;
        Mean after_reading;
    };
    double seconds_to_read(size_t n_sequences, double decode_seconds);

    std::map<size_t, StepSeconds> step_seconds_;  // of a step of decoding, by number of sequences
    double credit_seconds_ = 0;                   // that may be read for before the next step of decoding
    double balance_seconds_ = 0;                  // that the first prompt was read for, beyond the shortest
    bool has_read_ = false;                       // since the last step of decoding
    bool is_idle_ = true;                         // nobody generates
};

}  // namespace cake
