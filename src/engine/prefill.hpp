#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "engine/sequence_parts.hpp"

namespace cake {

/// Which logits a prefill computes.
struct LogitsWanted {
    bool all = false;  // those after every token, not only after the last one
    /// If set, gets the logits after every token, one after another, and only the last ones are kept in the sequence.
    /// `token`: index in the text. `logits`: [n_vocab].
    std::function<void(int64_t token, std::span<const float> logits)> visit{};
};

/// Prefill of one segment, layer by layer over the tokens that each layer kept, with eviction after each layer
/// (docs/how-it-works.md, Eviction Manager). Fills the cache, report and logits of a sequence. The caller runs it step
/// by step and can do other work in between.
///
/// Several sequences can share one prefill if they are empty and have the same engine, window and cache types. Each
/// layer is then computed once, and its memory is counted in the first sequence.
class Prefill {
  public:
    /// `base`, if not null, holds the text before the segment in full. Its layers are copied, because the stores of the
    /// sequences are empty; the n_tokens of each sequence must be set to the length of that text. All arguments must
    /// outlive the prefill.
    Prefill(std::span<SequenceParts* const> sequences, std::span<const Token> tokens, LogitsWanted wanted,
            const SequenceParts* base = nullptr);
    Prefill(Prefill&&) noexcept;
    ~Prefill();

    bool is_done() const;
    /// Runs the next step, which computes at most one chunk of tokens in one layer. Returns the work done so far in
    /// tokens of the segment: the share of work done times the length of the segment. Do not call it again after an
    /// error.
    Result<int64_t> step();

  private:
    class Work;
    std::unique_ptr<Work> work_;
};

/// Runs all steps of a prefill. `progress`, if set, is called after each step but the last and may cancel it.
/// `n_tokens`: tokens of the text.
template <typename Steps>
Result<void> run_steps(Steps& prefill, const ProgressFunction& progress, int64_t n_tokens) {
    while (!prefill.is_done()) {
        const auto n_done = prefill.step();
        if (!n_done) return std::unexpected(n_done.error());
        if (progress && !prefill.is_done() && !progress(*n_done, n_tokens))
            return fail(Error::Code::cancelled, "cancelled");
    }
    return {};
}

}  // namespace cake
