#include "serving/prefix_cache.hpp"

#include <xxhash.h>

#include <algorithm>
#include <utility>

namespace cake {

std::optional<CachedSequence> PrefixCache::take(const SequenceOptions& options, std::span<const Token> prompt,
                                                std::string_view salt, size_t n_kept) {
    auto best = sequences_.end();
    size_t n_common = n_kept;
    for (auto it = sequences_.begin(); it != sequences_.end(); ++it) {
        if (it->salt != salt || it->is_prefix) continue;
        const size_t n = reusable_tokens(*it, options, prompt);
        // A few tokens more than are at hand are not worth the end of another conversation.
        constexpr size_t kFew = 64;
        const bool is_cut = n < it->tokens.size();
        if (is_cut && n_kept > 0 && n <= n_kept + kFew) continue;
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

const CachedSequence* PrefixCache::find_prefix(const SequenceOptions& options, std::span<const Token> tokens,
                                               std::string_view salt) const {
    const auto found = std::ranges::find_if(sequences_, [&](const CachedSequence& sequence) {
        return sequence.is_prefix && sequence.salt == salt && std::ranges::equal(sequence.tokens, tokens) &&
               same_options(sequence.state->config.options, options);
    });
    return found == sequences_.end() ? nullptr : &*found;
}

bool PrefixCache::has_seen(std::span<const Token> tokens, std::string_view salt) {
    constexpr size_t kMost = 64;
    const auto bytes = std::as_bytes(tokens);
    const uint64_t hash = XXH3_64bits_withSeed(bytes.data(), bytes.size(), XXH3_64bits(salt.data(), salt.size()));
    const bool was_seen = std::ranges::contains(seen_, hash);
    std::erase(seen_, hash);
    seen_.push_back(hash);
    if (seen_.size() > kMost) seen_.pop_front();
    return was_seen;
}

const CachedSequence* PrefixCache::find(const SlotName& name) const {
    size_t index = name.index;
    const auto is_named = [&](const CachedSequence& sequence) {
        if (sequence.is_prefix || sequence.salt != name.cache_salt) return false;
        return name.id.empty() ? index-- == 0 : sequence.id == name.id;
    };
    const auto found = std::ranges::find_if(sequences_, is_named);
    return found == sequences_.end() ? nullptr : &*found;
}

/// Requires that `found` is in the cache.
std::list<CachedSequence>::iterator PrefixCache::position_of(const CachedSequence& found) {
    return std::ranges::find_if(sequences_, [&](const auto& sequence) { return &sequence == &found; });
}

void PrefixCache::touch(const CachedSequence& found) {
    sequences_.splice(sequences_.begin(), sequences_, position_of(found));
}

CachedSequence PrefixCache::take(const CachedSequence& found) {
    const auto it = position_of(found);
    CachedSequence taken = std::move(*it);
    sequences_.erase(it);
    return taken;
}

void PrefixCache::keep(CachedSequence&& sequence) {
    sequence.state->next.logits = {};  // the next request prefills at least one token
    sequence.state->decoder.reset();
    sequences_.push_front(std::move(sequence));
}

CachedSequence PrefixCache::take_oldest() {
    CachedSequence oldest = std::move(sequences_.back());
    sequences_.pop_back();
    return oldest;
}

}  // namespace cake
