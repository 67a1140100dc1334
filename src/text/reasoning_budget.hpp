#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cake/batcher.hpp"
#include "text/vocabulary.hpp"

namespace cake {

/// Counts the tokens of the reasoning with which an answer begins, and ends it when there are too many.
class ReasoningBudget {
  public:
    /// `vocabulary` must outlive the object.
    ReasoningBudget(const Vocabulary& vocabulary, ReasoningLimit limit);

    /// The token that has to come next; nothing if the model is free.
    std::optional<int32_t> forced() const;
    void take(int32_t token);

  private:
    enum class Place { before, inside, behind };

    const Vocabulary& vocabulary_;
    ReasoningLimit limit_;
    Place place_;
    std::string text_{};           // of the answer
    int64_t n_tokens_ = 0;         // of the reasoning
    std::vector<int32_t> ending_;  // tokens that end the reasoning
    size_t n_forced_ = 0;
};

}  // namespace cake
