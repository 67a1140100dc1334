#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "engine/sequence_parts.hpp"

namespace cake {

/// Reads a segment layer by layer over what each layer kept, and evicts after each layer (docs/how-it-works.md,
/// Eviction Manager). Fills the cache, report and logits of a sequence. Goes step by step, so that others can compute
/// in between.
///
/// Several sequences, all of them empty and of the same engine, window and cache types, have each layer computed once;
/// its memory is counted in the first of them.
class Prefill {
  public:
    /// `base`, if it is not null, holds in full the text that comes before, whose length is each sequence's n_tokens:
    /// its layers are copied instead of taken from the sequences' own stores, which are empty. All that is passed has
    /// to outlive the prefill.
    Prefill(std::span<SequenceParts* const> sequences, std::span<const Token> tokens, bool all_logits,
            const SequenceParts* base = nullptr);
    Prefill(Prefill&&) noexcept;
    ~Prefill();

    bool is_done() const;
    /// The next step, of a chunk of tokens through one layer or less. Returns how many tokens' worth of work is done;
    /// an error ends it.
    Result<int64_t> step();

  private:
    class Work;
    std::unique_ptr<Work> work_;
};

}  // namespace cake
