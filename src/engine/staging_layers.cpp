#include "engine/staging_layers.hpp"

namespace cake {

Result<StagingLayers> StagingLayers::allocate(SequenceParts& sequence, int64_t n_rows, int64_t n_segment) {
    const auto& layout = sequence.config.layout;
    StagingLayers result;
    result.memory_ = sequence.config.engine->compute.memory();
    result.has_windows_ = layout.has_other_windows || layout.stages_apart;
    for (size_t i = 0; i < result.memory_.n_parts(); i++) {
        auto part = allocate_part(sequence, result.memory_.part(i), n_rows, n_segment);
        if (!part) return std::unexpected(part.error());
        result.parts_.push_back(std::move(*part));
    }
    return result;
}

Result<StagingLayers::Part> StagingLayers::allocate_part(SequenceParts& sequence, const DeviceMemory& memory,
                                                         int64_t n_rows, int64_t n_segment) {
    const auto& layout = sequence.config.layout;
    const auto allocate = [&](const KvShape& shape, size_t least_bytes) {
        return StagingLayer::allocate(sequence.accountant, memory, shape, n_rows, n_segment, least_bytes);
    };
    const bool in_turns = layout.has_other_windows && !layout.stages_apart;
    auto whole = allocate(layout.sliced, in_turns ? staging_bytes(memory.buffer_type, layout, n_rows) : 0);
    if (!whole) return std::unexpected(whole.error());
    Part part;
    part.whole = std::move(*whole);
    part.size_bytes = part.whole.buffer().size_bytes();
    if (!in_turns && !layout.stages_apart) return part;
    auto windows = in_turns ? part.whole.reshaped(sequence.accountant, layout.sliding) : allocate(layout.sliding, 0);
    if (!windows) return std::unexpected(windows.error());
    part.windows = std::move(*windows);
    if (layout.stages_apart) part.size_bytes += part.windows.buffer().size_bytes();
    return part;
}

uint64_t StagingLayers::size_bytes() const {
    uint64_t n_bytes = 0;
    for (const Part& part : parts_) n_bytes += part.size_bytes;
    return n_bytes;
}

}  // namespace cake
