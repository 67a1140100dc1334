#pragma once

#include <llama.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cake/error.hpp"

namespace cake {

class Vocabulary;

/// Limits a text to what a constraint allows while the text is generated token by token.
class Restriction {
  public:
    virtual ~Restriction() = default;

    /// True if the token can come next; for an end-of-generation token, true if the text may end here.
    virtual bool allows(int32_t token) = 0;
    /// Sets the logits of all tokens that cannot come next to minus infinity.
    virtual void restrict(llama_token_data_array& candidates) = 0;
    /// A token that ends the text, if it may end here.
    virtual std::optional<int32_t> end() = 0;
    /// Appends the token to the text. After an error, no token is allowed any more.
    virtual Result<void> accept(int32_t token) = 0;
    /// The reason why no token is allowed, if it is not the text itself.
    virtual std::string failure() const = 0;
};

/// What a text must be, checked, and independent of a vocabulary. May be used by several threads at once.
class ConstraintRule {
  public:
    virtual ~ConstraintRule() = default;

    /// Creates the state at the beginning of a text.
    virtual Result<std::unique_ptr<Restriction>> begin(const Vocabulary& vocabulary) const = 0;
    /// Keywords of a JSON schema that are ignored.
    virtual const std::vector<std::string>& not_enforced() const = 0;
};

}  // namespace cake
