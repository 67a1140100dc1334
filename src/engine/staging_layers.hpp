#pragma once

#include <utility>
#include <vector>

#include "engine/staging_layer.hpp"

namespace cake {

/// The staging layers of a prefill. There is one for all layers on a device, unless those with a sliding window have K
/// and V of another shape, or later layers read both kinds. In the first case, both kinds take turns in one buffer.
class StagingLayers {
  public:
    /// See StagingLayer::allocate().
    static Result<StagingLayers> allocate(SequenceParts& sequence, int64_t n_rows, int64_t n_segment);

    /// The K and V that a layer attends to.
    StagingLayer& of(const Hparams& hparams, int32_t layer) {
        return const_cast<StagingLayer&>(std::as_const(*this).of(hparams, layer));
    }
    const StagingLayer& of(const Hparams& hparams, int32_t layer) const {
        const Part& part = parts_[memory_.part_of(hparams.kv_layer(layer))];
        return has_windows_ && hparams.is_swa(layer) ? part.windows : part.whole;
    }
    uint64_t size_bytes() const;

  private:
    /// The staging layers on one device.
    struct Part {
        StagingLayer whole;
        StagingLayer windows;
        uint64_t size_bytes = 0;
    };
    static Result<Part> allocate_part(SequenceParts& sequence, const DeviceMemory& memory, int64_t n_rows,
                                      int64_t n_segment);

    LayerMemory memory_{nullptr};
    std::vector<Part> parts_;
    bool has_windows_ = false;
};

}  // namespace cake
