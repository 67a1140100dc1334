#pragma once

#include <utility>

#include "cake/error.hpp"

namespace cake {

/// Whether a sequence can go on: a step that ended halfway leaves it broken, and nothing else does.
class SequenceStatus {
  public:
    bool is_broken() const { return is_broken_; }
    Result<void> check() const {
        if (is_broken_) return fail("an earlier text was not read to its end: this sequence cannot go on");
        return {};
    }

    /// A step that changes the sequence. Unless it is completed, the sequence stays broken.
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
