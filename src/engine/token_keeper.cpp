#include "engine/token_keeper.hpp"

#include <optional>

#include "eviction/analyzer.hpp"
#include "eviction/output_norms.hpp"
#include "eviction/sliding_window.hpp"

namespace cake {

TokenKeeper::TokenKeeper(std::span<SequenceParts* const> sequences, GraphRunner& analysis, int64_t n_segment,
                         bool from_base)
    : sequences_(sequences), analysis_(analysis), n_segment_(n_segment) {
    for (SequenceParts* sequence : sequences) {
        const int64_t n_after = sequence->progress.n_tokens + n_segment;
        evictions_.emplace_back(sequence->managed(), from_base ? n_after : n_segment, n_after);
        sequence->report.stages.clear();
    }
}

Result<void> TokenKeeper::keep(int32_t layer, const StagingLayer& staging, const LayerMoments* moments,
                               ReplayPass* replay) {
    auto keys = staging.keys(first().config.options.window);
    if (first().config.layout.is_sliding(layer)) {
        for (SequenceParts* sequence : sequences_) keep_window(sequence->managed(), layer, keys);
        return {};
    }
    auto stats = analyse(layer, keys);
    if (!stats) return std::unexpected(stats.error());
    keys.stats = *stats ? &**stats : nullptr;
    ExpectedQueries expected;
    if (moments != nullptr) {
        const int64_t position = first().progress.n_tokens + n_segment_;
        auto computed = moments->expected(analysis_, first().config.engine->weights, layer, position);
        if (!computed) return std::unexpected(computed.error());
        expected = std::move(*computed);
    }
    keys.expected = &expected;
    const auto norms = shared_output_norms(layer, keys);
    if (!norms) return std::unexpected(norms.error());
    keys.output_norms = norms->empty() ? nullptr : &*norms;
    if (replay != nullptr) replay->add_to(keys);
    for (auto& eviction : evictions_) {
        if (auto joined = eviction.join(analysis_, layer, keys); !joined) return joined;
    }
    return {};
}

/// Output norms of the layer, computed once for all sequences; empty if none of them reads them.
Result<std::vector<std::vector<float>>> TokenKeeper::shared_output_norms(int32_t layer, const LayerKeys& keys) {
    for (size_t i = 0; i < sequences_.size(); i++) {
        const auto& rules = sequences_[i]->config;
        if (!evictions_[i].evicts() || !rules.scorer().reads.output_norms) continue;
        return output_norms(analysis_, rules, layer, keys.buffer.v(), keys.outside(), OutputNorm::l1_of_group);
    }
    return std::vector<std::vector<float>>();
}

/// Analyses the layer's window attention once for all sequences, if at least one of them reads it.
Result<std::optional<AttentionStats>> TokenKeeper::analyse(int32_t layer, const LayerKeys& keys) {
    SequenceParts* reader = nullptr;
    for (size_t i = 0; i < sequences_.size(); i++)
        if (evictions_[i].reads_window()) reader = sequences_[i];
    if (reader == nullptr) return std::nullopt;
    auto stats = analyse_window(analysis_, reader->managed(), layer, keys);
    if (!stats) return std::unexpected(stats.error());
    return std::move(*stats);
}

}  // namespace cake
