#pragma once

#include <utility>

#include "engine/staging_layer.hpp"

namespace cake {

/// The staging layers of a prefill. There is one for all layers, unless those with a sliding window have K and V of
/// another shape, or later layers read both kinds. In the first case, both kinds take turns in one buffer.
class StagingLayers {
  public:
    /// See StagingLayer::allocate().
    static Result<StagingLayers> allocate(SequenceParts& sequence, int64_t n_rows, int64_t n_segment);

    /// The K and V that a layer attends to.
    StagingLayer& of(const Hparams& hparams, int32_t layer) {
        return const_cast<StagingLayer&>(std::as_const(*this).of(hparams, layer));
    }
    const StagingLayer& of(const Hparams& hparams, int32_t layer) const {
        return has_windows_ && hparams.is_swa(layer) ? windows_ : whole_;
    }
    uint64_t size_bytes() const { return size_bytes_; }

  private:
    StagingLayer whole_;
    StagingLayer windows_;
    bool has_windows_ = false;
    uint64_t size_bytes_ = 0;
};

}  // namespace cake
