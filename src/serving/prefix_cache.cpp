#include "serving/prefix_cache.hpp"

#include <utility>

namespace cake {

std::optional<CachedSequence> PrefixCache::take(const SequenceOptions& options, std::span<const Token> prompt,
                                                std::string_view salt) {
    auto best = sequences_.end();
    size_t n_common = 0;
    for (auto it = sequences_.begin(); it != sequences_.end(); ++it) {
        if (it->salt != salt) continue;
        const size_t n = reusable_tokens(*it, options, prompt);
        if (n > n_common) {
            n_common = n;
            best = it;
        }
    }
    if (best == sequences_.end()) return std::nullopt;
    rewind(*best, n_common);
    CachedSequence taken = std::move(*best);
    sequences_.erase(best);
    return taken;
}

void PrefixCache::keep(CachedSequence&& sequence) {
    sequence.state->next.logits = {};  // the next request prefills at least one token
    sequence.state->decode_runner.reset();
    sequences_.push_front(std::move(sequence));
}

CachedSequence PrefixCache::take_oldest() {
    CachedSequence oldest = std::move(sequences_.back());
    sequences_.pop_back();
    return oldest;
}

}  // namespace cake
