#pragma once

#include <cstdint>
#include <list>
#include <optional>
#include <span>
#include <string>

#include "serving/cached_sequence.hpp"

namespace cake {

/// Sequences that have answered and stay in memory, for a prompt that goes on from their text. The one that was used
/// last comes first.
class PrefixCache {
  public:
    /// Takes out the sequence that has most of `prompt` in common, cut to that; none if there is none. `options` are
    /// those that a sequence of the prompt's own would have.
    std::optional<CachedSequence> take(const SequenceOptions& options, std::span<const Token> prompt);
    /// Puts a sequence first. What only a text that is being generated needs is freed.
    void keep(CachedSequence&& sequence);
    /// Takes out the one that was used longest ago; there has to be one.
    CachedSequence take_oldest();

    size_t size() const { return sequences_.size(); }
    bool empty() const { return sequences_.empty(); }
    uint64_t kv_bytes() const;
    auto begin() const { return sequences_.begin(); }
    auto end() const { return sequences_.end(); }

  private:
    std::list<CachedSequence> sequences_;
};

}  // namespace cake
