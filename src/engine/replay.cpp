#include "engine/replay.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine/forward_layer.hpp"
#include "engine/recurrent_layer.hpp"
#include "eviction/output_norms.hpp"
#include "eviction/replay_attention.hpp"

namespace cake {

namespace {

/// Importance before the replay: tokens of earlier segments keep their scores.
std::vector<std::vector<float>> begun_importance(const StagingLayer& staging, int64_t n_text) {
    auto importance = staging.kept_scores();
    for (auto& of_head : importance) of_head.resize(of_head.size() + static_cast<size_t>(n_text), 0.0F);
    return importance;
}

/// Tokens of earlier segments that have no score (those of a window, of a text that fitted, or of an answer) count as
/// much as the text does on average.
void score_unscored(std::vector<std::vector<float>>& importance, int64_t n_text) {
    for (auto& of_head : importance) {
        const auto text = std::span(of_head).last(static_cast<size_t>(n_text));
        const double sum = std::accumulate(text.begin(), text.end(), 0.0);
        const auto mean = static_cast<float>(sum / static_cast<double>(n_text));
        for (float& score : std::span(of_head).first(of_head.size() - text.size()))
            if (!std::isfinite(score) || score == 0) score = mean;
    }
}

/// The part of each head that belongs to a chunk of the text.
std::vector<std::span<float>> parts_of_chunk(std::vector<std::vector<float>>& importance, const ReplayChunk& chunk,
                                             int64_t n_text) {
    std::vector<std::span<float>> parts;
    for (auto& head : importance) {
        const auto begin = static_cast<size_t>(std::ssize(head) - n_text + chunk.begin);
        parts.push_back(std::span(head).subspan(begin, static_cast<size_t>(chunk.end - chunk.begin)));
    }
    return parts;
}

}  // namespace

Result<ReplayPass> ReplayPass::make(SequenceParts& sequence, std::span<const Token> text, int64_t position,
                                    Wanted wanted) {
    ReplayPass pass(sequence);
    const auto& engine = *sequence.config.engine;
    const auto& h = engine.hparams;
    auto chunks = plan_replay(engine.vocabulary, text);
    if (!chunks) return std::unexpected(chunks.error());
    pass.wanted_ = wanted;
    pass.chunks_ = std::move(*chunks);
    pass.n_text_ = std::ssize(text);
    pass.position_ = position;
    const int64_t n_batch = engine.options.n_batch;
    for (size_t i = 0; i < pass.chunks_.size(); i++) {
        const auto n = std::ssize(pass.chunks_[i].tokens);
        for (int64_t begin = 0; begin < n; begin += n_batch) {
            const int64_t end = std::min(begin + n_batch, n);
            pass.batches_.push_back({.chunk = i, .begin = begin, .end = end, .row = pass.n_tokens_});
            pass.n_tokens_ += end - begin;
        }
    }
    const auto& memory = engine.compute.memory();
    auto hidden =
        HiddenStates::allocate(sequence.accountant, memory, h.n_embd, pass.n_tokens_, sequence.max_hidden_f32_bytes);
    if (!hidden) return std::unexpected(hidden.error());
    pass.hidden_ = std::move(*hidden);
    if (h.has_recurrent()) {
        auto states = PartTensors::allocate(sequence.accountant, MemoryUse::compute, memory, GGML_TYPE_F32,
                                            h.recurrent.n_state(), 1, "the state of a replay");
        if (!states) return std::unexpected(states.error());
        pass.states_ = std::move(*states);
    }
    auto queries = ChunkQueries::allocate(sequence, std::min(n_batch, pass.n_tokens_));
    if (!queries) return std::unexpected(queries.error());
    pass.queries_ = std::move(*queries);
    return pass;
}

int64_t ReplayPass::n_rows() const {
    int64_t most = 0;
    for (const auto& chunk : chunks_) most = std::max(most, std::ssize(chunk.tokens));
    return most;
}

Result<void> ReplayPass::embed(GraphRunner& runner, size_t step) {
    const Batch& batch = batches_[step];
    const int64_t n = batch.end - batch.begin;
    constexpr size_t kNodes = 64;
    Graph graph(kNodes);
    ggml_tensor* ids = graph.input(GGML_TYPE_I32, n);
    ggml_tensor* positions = graph.input(GGML_TYPE_I32, n);
    hidden_.write(graph, layer_graph(graph).embed(ids, positions), batch.row, batch.row + n);
    if (auto allocated = runner.allocate(graph); !allocated) return allocated;
    set_input<int32_t>(ids, tokens_of(batch));
    set_numbers<int32_t>(positions, position_ + batch.begin);
    return runner.compute(graph);
}

Result<void> ReplayPass::begin_layer(GraphRunner& runner, const StagingLayer& staging, int32_t layer) {
    layer_ = layer;
    hidden_.move_to(layer);
    scored_ = sequence_->config.layout.is_sliced(layer);
    if (!scored_) return {};
    if (wanted_.attention) attention_ = begun_importance(staging, n_text_);
    if (!wanted_.output) return {};
    output_ = begun_importance(staging, n_text_);
    auto slots = staging.slots_to(n_text_);
    for (auto& head : slots) {
        head.begin += head.length - n_text_;
        head.length = n_text_;
    }
    auto norms = output_norms(runner, sequence_->config, layer, staging.buffer().v(), slots, OutputNorm::l2_of_head);
    if (!norms) return std::unexpected(norms.error());
    norms_ = std::move(*norms);
    return {};
}

Result<void> ReplayPass::run(GraphRunner& runner, GraphRunner& analysis, const StagingLayer& staging, size_t step) {
    const Batch& batch = batches_[step];
    const int64_t n = batch.end - batch.begin;
    const bool last = layer_ == last_layer();
    const bool has_state = engine().hparams.has_state(layer_);
    // Each chunk goes on from the state after the text.
    ggml_tensor* state = has_state ? states_.of(layer_) : nullptr;
    if (has_state && batch.begin == 0) ggml_backend_tensor_copy(sequence_->cache.recurrent.layer(layer_), state);
    if (engine().hparams.is_recurrent(layer_)) {
        return run_recurrent_layer(runner, engine(), layer_, hidden_, batch.row, batch.row + n, batch.row, state);
    }
    constexpr size_t kMoreNodes = 16;
    Graph graph(LayerGraph::max_nodes(engine().hparams) + kMoreNodes);
    ggml_tensor* positions = graph.input(GGML_TYPE_I32, n);
    ggml_tensor* rows = graph.input(GGML_TYPE_I64, n);
    ggml_tensor* ids = engine().hparams.n_embd_per_layer > 0 ? graph.input(GGML_TYPE_I32, n) : nullptr;
    ggml_tensor* norms = nullptr;
    const auto sink = [&](const Projections& projected) -> std::vector<AttendedSlots> {
        auto* context = graph.context();
        staging.put(graph, projected, rows);
        if (scored_) queries_.store(graph, layer_, projected.query);
        if (scored_ && wanted_.output) {
            norms = graph.output(ggml_sqrt(context, ggml_sum_rows(context, ggml_sqr(context, projected.input))));
            graph.add(norms);
        }
        return {{.k = staging.buffer().k(), .v = staging.buffer().v(), .heads = staging.slots_to(n_text_ + batch.end)}};
    };
    const LayerInput input{.hidden = hidden_.read(graph, batch.row, batch.row + n),
                           .positions = positions,
                           .tokens = ids,
                           .states = std::span(&state, has_state ? 1 : 0)};
    const auto output = forward_layer(graph, engine().attention, layer_graph(graph), layer_, input, last ? 0 : n, sink);
    if (output.hidden != nullptr) hidden_.write(graph, output.hidden, batch.row, batch.row + n);
    if (auto allocated = runner.allocate(graph); !allocated) return allocated;
    set_numbers<int32_t>(positions, position_ + batch.begin);
    set_numbers<int64_t>(rows, staging.segment_begin() + n_text_ + batch.begin);
    if (ids != nullptr && !last) set_input<int32_t>(ids, tokens_of(batch));
    set_masks(output.attended);
    if (auto computed = runner.compute(graph); !computed) return computed;
    if (!scored_) return {};
    std::vector<float> hidden_norms;
    if (norms != nullptr) {
        hidden_norms.resize(static_cast<size_t>(n));
        ggml_backend_tensor_get(norms, hidden_norms.data(), 0, hidden_norms.size() * sizeof(float));
    }
    return score(analysis, staging, batch, std::move(hidden_norms));
}

Result<void> ReplayPass::score(GraphRunner& analysis, const StagingLayer& staging, const Batch& batch,
                               std::vector<float> hidden_norms) {
    const auto& chunk = chunks_[batch.chunk];
    const ReplayQueries replay{.queries = queries_.rows(layer_),
                               .n_queries = batch.end - batch.begin,
                               .k = staging.buffer().k(),
                               .heads = staging.slots_to(n_text_ + batch.end),
                               .n_replay = batch.end,
                               .chunk_end = n_text_ - chunk.end,
                               .n_chunk = chunk.end - chunk.begin,
                               .hidden_norms = std::move(hidden_norms)};
    std::vector<std::span<const float>> norms;
    for (const auto& of_head : norms_)
        norms.push_back(
            std::span(of_head).subspan(static_cast<size_t>(chunk.begin), static_cast<size_t>(replay.n_chunk)));
    return raise_importance(analysis, engine().attention, sequence_->config.traits_of(layer_), replay, norms,
                            {.of_attention = parts_of_chunk(attention_, chunk, n_text_),
                             .of_output = parts_of_chunk(output_, chunk, n_text_)});
}

void ReplayPass::add_to(LayerKeys& keys) {
    score_unscored(attention_, n_text_);
    score_unscored(output_, n_text_);
    keys.replay.assign(attention_.begin(), attention_.end());
    keys.replay_output.assign(output_.begin(), output_.end());
}

}  // namespace cake
