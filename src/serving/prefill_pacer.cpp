#include "serving/prefill_pacer.hpp"

namespace cake {

/// Time for prefill after a decoding step that took `decode_seconds`. Decoding steps after prefill are timed
/// separately, because they take longer: prefill has replaced the contents of the CPU caches. The result is always
/// positive, so that prefill cannot stall.
double PrefillPacer::seconds_to_read(size_t n_sequences, double decode_seconds) {
    constexpr double kMaxRatio = 1.9;  // below 2, because some work between tokens is not measured here
    constexpr double kMinShare = 0.25;
    auto& [alone, after_reading] = step_seconds_[n_sequences];
    (has_read_ ? after_reading : alone).add(decode_seconds);
    if (alone.n == 0) return decode_seconds;
    // The steps without prefill may have been timed while the machine was slow.
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
