#include "serving/prefill_pacer.hpp"

namespace cake {

/// A step after prefill finds the processor's caches full of something else and takes longer; but prefill always gets
/// on.
double PrefillPacer::seconds_to_read(size_t n_sequences, double decode_seconds) {
    constexpr double kMaxRatio = 1.9;  // not 2: what is not measured here takes its time, too
    constexpr double kMinShare = 0.25;
    auto& [alone, after_reading] = step_seconds_[n_sequences];
    (has_read_ ? after_reading : alone).add(decode_seconds);
    if (alone.n == 0) return decode_seconds;
    // What was measured before a long text came may have been a slow moment of the machine.
    const double undisturbed = after_reading.n == 0 ? alone.value : std::min(alone.value, after_reading.value);
    return std::clamp(kMaxRatio * undisturbed - decode_seconds, kMinShare * decode_seconds, decode_seconds);
}

void PrefillPacer::decoded(size_t n_sequences, double seconds) {
    is_idle_ = n_sequences == 0;
    if (is_idle_) {
        credit_seconds_ = 0;
        return;
    }
    const double gained = seconds_to_read(n_sequences, seconds);
    credit_seconds_ = std::min(credit_seconds_ + gained, gained);
    has_read_ = false;
}

void PrefillPacer::read(double seconds, bool of_first) {
    has_read_ = true;
    balance_seconds_ += of_first ? seconds : -seconds;
    if (!is_idle_) credit_seconds_ -= seconds;
}

}  // namespace cake
