#pragma once

#include <utility>

#include "cake/error.hpp"

namespace cake {

/// Whether a sequence can continue. It is broken if a step that changes it was not completed.
class SequenceStatus {
  public:
    bool is_broken() const { return is_broken_; }
    Result<void> check() const {
        if (is_broken_) return fail("an earlier text was not read to its end: this sequence cannot continue");
        return {};
    }

    /// A step that changes the sequence. The sequence is broken until complete() is called.
    class Step {
      public:
        explicit Step(SequenceStatus& status) : status_(&status) { status.is_broken_ = true; }
        void complete() { status_->is_broken_ = false; }

      private:
        SequenceStatus* status_;
    };

  private:
    bool is_broken_ = false;
};

}  // namespace cake
