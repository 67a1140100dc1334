#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>

namespace cake {

/// Limits the time for prefill between two decoding steps, so that the time between tokens stays below twice the time
/// without prefill, and chooses between the oldest and the shortest prompt. It works on measured times that are passed
/// to it and reads no clock.
class PrefillPacer {
  public:
    /// Records a decoding step that took `seconds` for `n_sequences`. 0: no sequence is generating.
    void decoded(size_t n_sequences, double seconds);
    /// True if no sequence is generating. The time for prefill is then unlimited.
    bool is_idle() const { return is_idle_; }
    /// True if another prefill step may run before the next decoding step.
    bool may_read() const { return is_idle_ || credit_seconds_ > 0; }
    /// Records a prefill step that took `seconds`. `of_first`: it was a step of the oldest prompt. If a step takes more
    /// time than was left, there is less time after the next decoding steps.
    void read(double seconds, bool of_first);

    /// True if the shortest prompt should be prefilled next instead of the oldest. Both get the same time, so that
    /// short prompts do not wait for long ones to end, and long ones are not delayed forever by short ones.
    bool prefers_shortest() const { return balance_seconds_ > 0; }
    /// Resets the comparison. Call it if the oldest prompt changes, or if it is the shortest as well.
    void forget_balance() { balance_seconds_ = 0; }

  private:
    /// Moving average over about a hundred values.
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

    std::map<size_t, StepSeconds> step_seconds_;  // time of a decoding step, by number of sequences
    double credit_seconds_ = 0;                   // time left for prefill before the next decoding step
    double balance_seconds_ = 0;                  // prefill time of the oldest prompt minus that of the shortest
    bool has_read_ = false;                       // true if prefill ran since the last decoding step
    bool is_idle_ = true;                         // true if no sequence is generating
};

}  // namespace cake
