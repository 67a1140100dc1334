#include "engine/chunk_queries.hpp"

#include "eviction/analyzer.hpp"

namespace cake {

Result<ChunkQueries> ChunkQueries::allocate(SequenceParts& sequence, int64_t n_tokens) {
    const auto& h = sequence.config.hparams();
    auto rows =
        PartTensors::allocate(sequence.accountant, MemoryUse::compute, sequence.config.engine->compute.memory(),
                              GGML_TYPE_F32, int64_t{h.head_dim_k} * h.n_head, n_tokens, "the queries of a batch");
    if (!rows) return std::unexpected(rows.error());
    ChunkQueries result;
    result.rows_ = std::move(*rows);
    return result;
}

void ChunkQueries::store(Graph& graph, int32_t layer, ggml_tensor* query) const {
    ggml_tensor* rows = rows_.of(layer);
    graph.add(ggml_cpy(
        graph.context(), query,
        ggml_view_3d(graph.context(), rows, query->ne[0], query->ne[1], query->ne[2], query->nb[1], rows->nb[1], 0)));
}

Result<void> ChunkQueries::sum(GraphRunner& runner, const CacheRules& rules, int32_t layer, StagingLayer& staging,
                               int64_t begin, int64_t end) const {
    AttentionInput input{
        .queries = rows_.of(layer), .window = {}, .k = staging.buffer().k(), .heads = staging.slots_to(end)};
    for (int64_t i = begin; i < end; i++) input.window.push_back({.row = i - begin, .unseen = end - 1 - i});
    std::vector<std::span<float>> sums;
    for (size_t head = 0; head < input.heads.size(); head++)
        sums.push_back(std::span(staging.sums()[head]).first(static_cast<size_t>(input.heads[head].length)));
    return add_attention(runner, rules.attention, rules.traits_of(layer), input, sums);
}

}  // namespace cake
