#pragma once

#include <cstdint>
#include <deque>
#include <list>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "cake/batcher.hpp"
#include "serving/cached_sequence.hpp"

namespace cake {

/// Sequences that stay in memory after their answer, for a prompt that begins with their text. Ordered by last use, the
/// most recent first.
class PrefixCache {
  public:
    /// Takes out the sequence with this salt that shares the longest prefix with `prompt`, cut to this prefix. Returns
    /// nothing if no sequence is worth it, given that `n_kept` tokens of the prompt are at hand in any case. `options`
    /// are those of the new request.
    std::optional<CachedSequence> take(const SequenceOptions& options, std::span<const Token> prompt,
                                       std::string_view salt = {}, size_t n_kept = 0);
    /// The prefix with exactly these tokens and this salt; null if there is none.
    const CachedSequence* find_prefix(const SequenceOptions& options, std::span<const Token> tokens,
                                      std::string_view salt) const;
    /// True if this was called before with the same prefix, not long ago.
    bool has_seen(std::span<const Token> tokens, std::string_view salt);
    /// Makes a sequence that was found the most recently used.
    void touch(const CachedSequence& found);
    /// A sequence that is not a prefix; null if there is none with this name.
    const CachedSequence* find(const SlotName& name) const;
    /// Takes out a sequence that find() has returned.
    CachedSequence take(const CachedSequence& found);
    /// Adds a sequence as the most recently used. Frees its logits and decoding buffers.
    void keep(CachedSequence&& sequence);
    /// Takes out the least recently used sequence. The cache must not be empty.
    CachedSequence take_oldest();

    size_t size() const { return sequences_.size(); }
    bool empty() const { return sequences_.empty(); }
    uint64_t kv_bytes() const { return kv_bytes_of(sequences_); }
    auto begin() const { return sequences_.begin(); }
    auto end() const { return sequences_.end(); }

  private:
    std::list<CachedSequence>::iterator position_of(const CachedSequence& found);

    std::list<CachedSequence> sequences_;
    std::deque<uint64_t> seen_;  // hashes of the latest prefixes
};

}  // namespace cake
