#include "engine/prefill.hpp"

#include <algorithm>
#include <numeric>
#include <optional>
#include <vector>

#include "engine/forward_layer.hpp"
#include "engine/hidden_states.hpp"
#include "engine/staging_layer.hpp"
#include "eviction/analyzer.hpp"
#include "eviction/decode_eviction.hpp"
#include "eviction/segment_eviction.hpp"
#include "eviction/slicing.hpp"
#include "eviction/sliding_window.hpp"

namespace cake {

namespace {

constexpr size_t kNodes = 64;
constexpr size_t kNodesPerRing = 4;
constexpr int64_t kLogitsPerGraph = 64;

/// Sets an input to consecutive numbers.
template <typename T>
void set_numbers(ggml_tensor* input, int64_t first) {
    std::vector<T> numbers(static_cast<size_t>(input->ne[0]));
    std::iota(numbers.begin(), numbers.end(), static_cast<T>(first));
    set_input<T>(input, numbers);
}

/// The step that comes next.
struct Cursor {
    enum class Phase { begin, embed, layers, end_of_layer, logits, done };
    Phase phase = Phase::begin;
    int32_t layer = 0;
    int64_t token = 0;  // index of the next token in the segment
};

}  // namespace

class Prefill::Work {
  public:
    Work(std::span<SequenceParts* const> sequences, std::span<const Token> tokens, LogitsWanted wanted,
         const SequenceParts* base)
        : sequences_(sequences),
          base_(base),
          tokens_(tokens),
          wanted_(std::move(wanted)),
          first_output_(wanted_.all ? 0 : n_segment() - 1),
          runner_(engine().compute, first().accountant),
          analysis_(engine().compute, first().accountant) {
        for (SequenceParts* sequence : sequences) {
            const int64_t n_after = sequence->progress.n_tokens + n_segment();
            evictions_.emplace_back(sequence->managed(), base != nullptr ? n_after : n_segment(), n_after);
            sequence->report.stages.clear();
        }
    }

    bool is_done() const { return cursor_.phase == Cursor::Phase::done; }

    Result<int64_t> step() {
        const int64_t n_done = tokens_after_step();
        if (auto done = take_step(); !done) return std::unexpected(done.error());
        return n_done;
    }

  private:
    SequenceParts& first() const { return *sequences_.front(); }
    const EngineState& engine() const { return *first().config.engine; }
    const Hparams& hparams() const { return engine().hparams; }
    int64_t n_segment() const { return std::ssize(tokens_); }
    int64_t n_window() const { return std::min<int64_t>(first().config.options.window, n_segment()); }
    bool is_sliding(int32_t layer) const { return first().config.layout.is_sliding(layer); }
    bool sums_attention() const { return chunk_queries_.get() != nullptr; }
    LayerGraph layer_graph(const Graph& graph) const { return {graph.context(), hparams(), engine().weights}; }

    Result<void> take_step() {
        switch (cursor_.phase) {
            case Cursor::Phase::begin:
                return begin();
            case Cursor::Phase::embed:
                return embed_chunk();
            case Cursor::Phase::layers:
                return run_chunk();
            case Cursor::Phase::end_of_layer:
                return end_layer();
            case Cursor::Phase::logits:
                return compute_logits();
            case Cursor::Phase::done:
                break;
        }
        return {};
    }

    /// Share of the work that is done after the next step, times the length of the segment in tokens.
    int64_t tokens_after_step() const {
        switch (cursor_.phase) {
            case Cursor::Phase::begin:
            case Cursor::Phase::embed:
                return 0;
            case Cursor::Phase::layers:
                return (cursor_.layer * n_segment() + end_of_chunk()) / hparams().n_layer;
            case Cursor::Phase::end_of_layer:
                return (cursor_.layer + 1) * n_segment() / hparams().n_layer;
            case Cursor::Phase::logits:
            case Cursor::Phase::done:
                break;
        }
        return n_segment();
    }

    /// A chunk has fewer tokens if each of them attends to many tokens, so that a step takes about the same time at any
    /// depth.
    int64_t end_of_chunk() const {
        constexpr int64_t kManyTokens = 8192;
        constexpr int64_t kMinTokens = 16;
        const int64_t n_batch = engine().options.n_batch;
        const int64_t n_seen = staging_.segment_begin() + cursor_.token + n_batch;
        const int64_t n_tokens =
            std::max(n_batch * kManyTokens / std::max(kManyTokens, n_seen), std::min(kMinTokens, n_batch));
        return std::min(cursor_.token + n_tokens, n_segment());
    }

    Result<void> begin() {
        if (auto allocated = allocate(); !allocated) return allocated;
        for (const int32_t layer : first().cache.sliced.layers()) {
            if (auto added = add_decoded_attention(analysis_, first().managed(), layer); !added) return added;
        }
        cursor_.phase = Cursor::Phase::embed;
        return {};
    }

    Result<void> allocate() {
        auto& accountant = first().accountant;
        auto* type = engine().compute.buffer_type();
        const auto& h = hparams();
        auto staging = StagingLayer::allocate(accountant, type, first().config.layout.sliced,
                                              max_held(base_ != nullptr ? *base_ : first()) + n_segment(), n_segment());
        if (!staging) return std::unexpected(staging.error());
        staging_ = std::move(*staging);
        auto& report = first().report;
        report.layer_bytes = std::max<uint64_t>(report.layer_bytes, staging_.buffer().size_bytes());

        auto hidden = HiddenStates::allocate(accountant, type, h.n_embd, n_segment(), first().max_hidden_f32_bytes);
        if (!hidden) return std::unexpected(hidden.error());
        hidden_ = std::move(*hidden);

        const auto sums = [](const SequenceParts* sequence) { return sequence->config.sums_attention(); };
        if (std::ranges::none_of(sequences_, sums)) return {};
        auto queries = AccountedTensor::allocate(
            accountant, MemoryUse::compute, type, GGML_TYPE_F32, int64_t{h.head_dim_k} * h.n_head,
            std::min<int64_t>(engine().options.n_batch, n_segment()), "the queries of a batch");
        if (!queries) return std::unexpected(queries.error());
        chunk_queries_ = std::move(*queries);
        return {};
    }

    Result<void> embed_chunk() {
        const int64_t begin = cursor_.token;
        const int64_t end = end_of_chunk();
        Graph graph(kNodes);
        ggml_tensor* ids = graph.input(GGML_TYPE_I32, end - begin);
        ggml_tensor* positions = graph.input(GGML_TYPE_I32, end - begin);
        hidden_.write(graph, layer_graph(graph).embed(ids, positions), begin, end);
        if (auto allocated = runner_.allocate(graph); !allocated) return allocated;
        set_numbers<int32_t>(positions, first().progress.n_tokens + begin);
        set_input(ids, tokens_.subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin)));
        cursor_.token = end;
        if (end == n_segment()) {
            first_row_ = first().cache.queries.next();
            for (SequenceParts* sequence : sequences_) sequence->cache.queries.push(n_window());
            begin_layer(0);
        }
        return runner_.compute(graph);
    }

    void begin_layer(int32_t layer) {
        cursor_ = {.phase = Cursor::Phase::layers, .layer = layer, .token = 0};
        const auto position = static_cast<int32_t>(first().progress.n_tokens);
        if (base_ != nullptr) {
            staging_.copy(base_->cache.of(layer), layer, position);
        } else {
            staging_.take(first().cache.of(layer), layer, position);
        }
    }

    /// Computes the layer for a chunk of the segment. In the last layer, only tokens whose logits are needed go through
    /// attention and feed-forward.
    Result<void> run_chunk() {
        const int32_t layer = cursor_.layer;
        const int64_t begin = cursor_.token;
        const int64_t end = end_of_chunk();
        const bool last = layer == hparams().n_layer - 1;
        const int64_t output_begin = last ? std::clamp(first_output_, begin, end) : begin;

        Graph graph(LayerGraph::max_nodes(hparams()) + kNodesPerRing * sequences_.size());
        ggml_tensor* positions = graph.input(GGML_TYPE_I32, end - begin);
        ggml_tensor* slots = graph.input(GGML_TYPE_I64, end - begin);
        ggml_tensor* ring_rows = nullptr;
        const auto sink = [&](const Projections& projected) -> std::vector<AttendedSlots> {
            graph.add(staging_.put(graph, projected.key, staging_.buffer().k(), slots));
            graph.add(staging_.put(graph, projected.value, staging_.buffer().v(), slots));
            ring_rows = store_window_queries(graph, projected.query, end);
            if (sums_attention() && !is_sliding(layer)) store_chunk_queries(graph, projected.query);
            return {
                {.k = staging_.buffer().k(), .v = staging_.buffer().v(), .heads = staging_.slots(n_segment() - end)}};
        };
        const auto output = forward_layer(graph, engine().attention, layer_graph(graph), layer,
                                          hidden_.read(graph, begin, end), positions, end - output_begin, sink);
        if (output.hidden != nullptr) hidden_.write(graph, output.hidden, output_begin, end);
        if (auto allocated = runner_.allocate(graph); !allocated) return allocated;
        set_numbers<int32_t>(positions, first().progress.n_tokens + begin);
        set_numbers<int64_t>(slots, staging_.segment_begin() + begin);
        if (ring_rows != nullptr) set_ring_rows(ring_rows, end);
        set_masks(output.attended);
        if (auto computed = runner_.compute(graph); !computed) return computed;
        if (sums_attention() && !is_sliding(layer)) {
            if (auto summed = sum_attention(layer, begin, end); !summed) return summed;
        }
        cursor_.token = end;
        if (end == n_segment()) cursor_.phase = Cursor::Phase::end_of_layer;
        return {};
    }

    /// Adds nodes that copy queries into the layer's rings, for those tokens of the chunk that are in the window.
    /// Returns the graph input for their row numbers, or null if there is nothing to copy.
    ggml_tensor* store_window_queries(Graph& graph, ggml_tensor* query, int64_t end) {
        const auto ring = [&](const SequenceParts* sequence) { return sequence->cache.queries.layer(cursor_.layer); };
        const int64_t from = std::max(cursor_.token, n_segment() - n_window());
        if (from >= end || std::ranges::none_of(sequences_, ring)) return nullptr;
        ggml_tensor* at = graph.input(GGML_TYPE_I64, end - from);
        ggml_tensor* rows = ggml_view_2d(graph.context(), query, query->ne[0] * query->ne[1], end - from, query->nb[2],
                                         static_cast<size_t>(from - cursor_.token) * query->nb[2]);
        for (const SequenceParts* sequence : sequences_)
            if (ring(sequence) != nullptr) graph.add(ggml_set_rows(graph.context(), ring(sequence), rows, at));
        return at;
    }

    /// Sets `at` to the ring rows of the tokens before `end`, one for each element.
    void set_ring_rows(ggml_tensor* at, int64_t end) const {
        std::vector<int64_t> numbers;
        const int64_t in_window = end - at->ne[0] - (n_segment() - n_window());
        for (int64_t i = 0; i < at->ne[0]; i++)
            numbers.push_back((first_row_ + in_window + i) % first().config.options.window);
        set_input<int64_t>(at, numbers);
    }

    void store_chunk_queries(Graph& graph, ggml_tensor* query) const {
        ggml_tensor* rows = chunk_queries_.get();
        graph.add(ggml_cpy(graph.context(), query,
                           ggml_view_3d(graph.context(), rows, query->ne[0], query->ne[1], query->ne[2], query->nb[1],
                                        rows->nb[1], 0)));
    }

    /// Adds the attention of the queries [begin, end) to the cumulative attention of the layer.
    Result<void> sum_attention(int32_t layer, int64_t begin, int64_t end) {
        AttentionInput input{.queries = chunk_queries_.get(),
                             .window = {},
                             .k = staging_.buffer().k(),
                             .heads = staging_.slots(n_segment() - end)};
        for (int64_t i = begin; i < end; i++) input.window.push_back({.row = i - begin, .unseen = end - 1 - i});
        std::vector<std::span<float>> sums;
        for (size_t head = 0; head < input.heads.size(); head++)
            sums.push_back(std::span(staging_.sums()[head]).first(static_cast<size_t>(input.heads[head].length)));
        return add_attention(analysis_, engine().attention, first().config.traits_of(layer), input, sums);
    }

    /// Moves the tokens that the layer keeps from the staging layer into the caches.
    Result<void> end_layer() {
        const int32_t layer = cursor_.layer;
        auto keys = staging_.keys(first().config.options.window);
        if (is_sliding(layer)) {
            for (SequenceParts* sequence : sequences_) keep_window(sequence->managed(), layer, keys);
        } else {
            auto stats = analyse(layer, keys);
            if (!stats) return std::unexpected(stats.error());
            keys.stats = *stats ? &**stats : nullptr;
            for (auto& eviction : evictions_) {
                if (auto joined = eviction.join(layer, keys); !joined) return joined;
            }
        }
        if (layer + 1 < hparams().n_layer) {
            begin_layer(layer + 1);
        } else {
            cursor_ = {.phase = Cursor::Phase::logits, .layer = layer, .token = first_output_};
        }
        return {};
    }

    /// Analyses the layer's window attention once for all sequences, if at least one of them reads it.
    Result<std::optional<AttentionStats>> analyse(int32_t layer, const LayerKeys& keys) {
        SequenceParts* reader = nullptr;
        for (size_t i = 0; i < sequences_.size(); i++)
            if (evictions_[i].reads_window()) reader = sequences_[i];
        if (reader == nullptr) return std::nullopt;
        auto stats = analyse_window(analysis_, reader->managed(), layer, keys);
        if (!stats) return std::unexpected(stats.error());
        return std::move(*stats);
    }

    void end() {
        for (SequenceParts* sequence : sequences_) {
            auto& progress = sequence->progress;
            progress.n_tokens += n_segment();
            std::ranges::fill(progress.n_unread, 0);
            if (sequence != &first()) sequence->next.logits = first().next.logits;
        }
        for (SequenceParts* sequence : sequences_) make_room_for_decoding(sequence->managed());
        cursor_.phase = Cursor::Phase::done;
    }

    Result<void> compute_logits() {
        const auto n_vocab = static_cast<size_t>(hparams().n_vocab);
        const int64_t begin = cursor_.token;
        const int64_t end_of_step = std::min(begin + kLogitsPerGraph, n_segment());
        Graph graph(kNodes);
        ggml_tensor* logits = graph.output(layer_graph(graph).logits(hidden_.read(graph, begin, end_of_step)));
        if (auto allocated = runner_.allocate(graph); !allocated) return allocated;
        if (auto computed = runner_.compute(graph); !computed) return computed;
        std::vector<float> fresh(n_vocab * static_cast<size_t>(end_of_step - begin));
        ggml_backend_tensor_get(logits, fresh.data(), 0, ggml_nbytes(logits));
        auto& kept = first().next.logits;
        if (begin == first_output_) kept.clear();
        if (wanted_.visit) {
            for (int64_t i = begin; i < end_of_step; i++)
                wanted_.visit(i, std::span(fresh).subspan(n_vocab * static_cast<size_t>(i - begin), n_vocab));
            kept.assign(fresh.end() - static_cast<ptrdiff_t>(n_vocab), fresh.end());
        } else {
            kept.append_range(fresh);
        }
        cursor_.token = end_of_step;
        if (end_of_step == n_segment()) end();
        return {};
    }

    std::span<SequenceParts* const> sequences_;
    const SequenceParts* base_;
    std::span<const Token> tokens_;
    LogitsWanted wanted_;
    int64_t first_output_;
    int32_t first_row_ = 0;  // ring row of the window's first query
    GraphRunner runner_;
    GraphRunner analysis_;
    std::vector<SegmentEviction> evictions_;  // one for each sequence
    StagingLayer staging_;
    HiddenStates hidden_;
    AccountedTensor chunk_queries_;  // f32 [head_dim_k * n_head, n_batch]; only if a scorer reads cumulative attention
    Cursor cursor_;
};

Prefill::Prefill(std::span<SequenceParts* const> sequences, std::span<const Token> tokens, LogitsWanted wanted,
                 const SequenceParts* base)
    : work_(std::make_unique<Work>(sequences, tokens, std::move(wanted), base)) {}
Prefill::Prefill(Prefill&&) noexcept = default;
Prefill::~Prefill() = default;

bool Prefill::is_done() const {
    return work_->is_done();
}

Result<int64_t> Prefill::step() {
    return work_->step();
}

}  // namespace cake
