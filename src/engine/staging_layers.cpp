#include "engine/staging_layers.hpp"

namespace cake {

Result<StagingLayers> StagingLayers::allocate(SequenceParts& sequence, int64_t n_rows, int64_t n_segment) {
    const auto memory = sequence.config.engine->compute.memory();
    const auto& layout = sequence.config.layout;
    const auto allocate = [&](const KvShape& shape, size_t least_bytes) {
        return StagingLayer::allocate(sequence.accountant, memory, shape, n_rows, n_segment, least_bytes);
    };
    const bool in_turns = layout.has_other_windows && !layout.stages_apart;
    auto whole = allocate(layout.sliced, in_turns ? staging_bytes(memory.buffer_type, layout, n_rows) : 0);
    if (!whole) return std::unexpected(whole.error());
    StagingLayers result;
    result.whole_ = std::move(*whole);
    result.size_bytes_ = result.whole_.buffer().size_bytes();
    result.has_windows_ = layout.has_other_windows || layout.stages_apart;
    if (in_turns) result.windows_ = result.whole_.reshaped(sequence.accountant, layout.sliding);
    if (!layout.stages_apart) return result;
    auto windows = allocate(layout.sliding, 0);
    if (!windows) return std::unexpected(windows.error());
    result.windows_ = std::move(*windows);
    result.size_bytes_ += result.windows_.buffer().size_bytes();
    return result;
}

}  // namespace cake
