#include "engine/prefill.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>

#include "engine/analysis.hpp"
#include "engine/attention.hpp"
#include "engine/eviction.hpp"
#include "engine/graph.hpp"
#include "engine/layer_in_flight.hpp"
#include "engine/scoring.hpp"
#include "method/allocator.hpp"
#include "model/layer_graph.hpp"

namespace cake {

namespace {

constexpr size_t kNodes = 64;
constexpr size_t kNodesPerRing = 4;
constexpr int64_t kLogitsPerGraph = 64;

class Prefill {
  public:
    Prefill(std::span<SequenceParts* const> states, std::span<const Token> tokens, bool all_logits,
            const SequenceParts* base)
        : states_(states),
          state_(*states.front()),
          base_(base),
          h_(state_.config.hparams()),
          tokens_(tokens),
          n_segment_(static_cast<int64_t>(tokens.size())),
          n_window_(std::min<int64_t>(state_.config.options.window, n_segment_)),
          first_output_(all_logits ? 0 : n_segment_ - 1),
          runner_(state_.config.engine->compute, state_.accountant),
          analysis_(state_.config.engine->compute, state_.accountant),
          sums_attention_(std::ranges::any_of(states, [](const auto* s) { return s->config.sums_attention(); })) {
        for (SequenceParts* state : states) {
            const int64_t n_after = state->progress.n_tokens + n_segment_;
            evictions_.emplace_back(*state, base != nullptr ? n_after : n_segment_, n_after);
            state->report.stages.clear();
        }
    }

    /// Yields how many tokens' worth of work is done, step by step, or the error that ends it.
    std::generator<Result<int64_t>> run() {
        if (auto allocated = allocate(); !allocated) co_return co_yield std::unexpected(allocated.error());
        for (int64_t begin = 0; begin < n_segment_; begin = end_of_chunk(begin)) {
            if (auto embedded = embed(begin, end_of_chunk(begin)); !embedded)
                co_return co_yield std::unexpected(embedded.error());
            co_yield 0;
        }
        for (const int32_t layer : state_.cache.sliced.layers()) {
            if (auto added = add_decoded_attention(analysis_, state_, layer); !added)
                co_return co_yield std::unexpected(added.error());
        }
        first_row_ = state_.cache.queries.next();
        for (SequenceParts* state : states_) state->cache.queries.push(n_window_);
        for (int32_t layer = 0; layer < h_.n_layer; layer++) {
            const auto position = static_cast<int32_t>(state_.progress.n_tokens);
            if (base_ != nullptr) {
                flight_.copy(base_->cache.of(layer), layer, position);
            } else {
                flight_.take(state_.cache.of(layer), layer, position);
            }
            for (int64_t begin = 0; begin < n_segment_; begin = end_of_chunk(begin)) {
                if (auto chunk = run_chunk(layer, begin, end_of_chunk(begin)); !chunk)
                    co_return co_yield std::unexpected(chunk.error());
                co_yield (layer * n_segment_ + end_of_chunk(begin)) / h_.n_layer;
            }
            if (auto stored = store_layer(layer); !stored) co_return co_yield std::unexpected(stored.error());
            co_yield (layer + 1) * n_segment_ / h_.n_layer;
        }
        if (auto computed = compute_logits(); !computed) co_return co_yield std::unexpected(computed.error());
        for (SequenceParts* state : states_) {
            state->progress.n_tokens += n_segment_;
            std::ranges::fill(state->progress.n_unread, 0);
            if (state != &state_) state->progress.logits = state_.progress.logits;
        }
        for (SequenceParts* state : states_) make_room_for_decoding(*state);
    }

  private:
    bool is_sliding(int32_t layer) const { return state_.config.layout.is_sliding(layer); }
    int64_t n_batch() const { return state_.config.engine->options.n_batch; }
    /// Where each attends to many, a chunk has fewer tokens: nobody who waits for its end has to wait long.
    int64_t end_of_chunk(int64_t begin) const {
        constexpr int64_t kMany = 8192;
        constexpr int64_t kLeast = 16;
        const int64_t n_seen = flight_.segment_begin() + begin + n_batch();
        const int64_t n_tokens = std::max(n_batch() * kMany / std::max(kMany, n_seen), std::min(kLeast, n_batch()));
        return std::min(begin + n_tokens, n_segment_);
    }

    Result<void> allocate() {
        auto* type = state_.config.engine->compute.buffer_type();
        auto flight = LayerInFlight::allocate(state_.accountant, type, state_.config.layout.sliced,
                                              most_held(base_ != nullptr ? *base_ : state_) + n_segment_, n_segment_);
        if (!flight) return std::unexpected(flight.error());
        flight_ = std::move(*flight);
        state_.report.layer_bytes = std::max<uint64_t>(state_.report.layer_bytes, flight_.buffer().size_bytes());

        const auto n_hidden = static_cast<size_t>(n_segment_) * static_cast<size_t>(h_.n_embd);
        const bool large = n_hidden * sizeof(float) > state_.max_hidden_f32_bytes;
        const ggml_type hidden_type = large ? GGML_TYPE_BF16 : GGML_TYPE_F32;
        auto hidden = AccountedBuffer::allocate(state_.accountant, MemoryUse::hidden, type,
                                                n_hidden * ggml_type_size(hidden_type), "the text's hidden states");
        if (!hidden) return std::unexpected(hidden.error());
        hidden_buffer_ = std::move(*hidden);
        context_.reset(ggml_init({.mem_size = 2 * ggml_tensor_overhead(), .mem_buffer = nullptr, .no_alloc = true}));
        hidden_ = ggml_new_tensor_2d(context_.get(), hidden_type, h_.n_embd, n_segment_);
        ggml_backend_tensor_alloc(hidden_buffer_.get(), hidden_, ggml_backend_buffer_get_base(hidden_buffer_.get()));
        return sums_attention_ ? allocate_chunk_queries() : Result<void>();
    }

    /// Where the queries of a chunk outlive its graph.
    Result<void> allocate_chunk_queries() {
        chunk_queries_ = ggml_new_tensor_2d(context_.get(), GGML_TYPE_F32, int64_t{h_.head_dim_k} * h_.n_head,
                                            std::min(n_batch(), n_segment_));
        auto buffer = AccountedBuffer::allocate(state_.accountant, MemoryUse::compute,
                                                state_.config.engine->compute.buffer_type(),
                                                ggml_nbytes(chunk_queries_), "the queries of a batch");
        if (!buffer) return std::unexpected(buffer.error());
        chunk_buffer_ = std::move(*buffer);
        ggml_backend_tensor_alloc(chunk_buffer_.get(), chunk_queries_,
                                  ggml_backend_buffer_get_base(chunk_buffer_.get()));
        return {};
    }

    LayerGraph layer_graph(Graph& graph) const { return {graph.context(), h_, state_.config.engine->weights}; }

    ggml_tensor* hidden_view(Graph& graph, int64_t begin, int64_t end) const {
        return ggml_view_2d(graph.context(), hidden_, h_.n_embd, end - begin, hidden_->nb[1],
                            static_cast<size_t>(begin) * hidden_->nb[1]);
    }

    ggml_tensor* read_hidden(Graph& graph, int64_t begin, int64_t end) const {
        ggml_tensor* view = hidden_view(graph, begin, end);
        return hidden_->type == GGML_TYPE_F32 ? view : ggml_cast(graph.context(), view, GGML_TYPE_F32);
    }

    void write_hidden(Graph& graph, ggml_tensor* values, int64_t begin, int64_t end) const {
        graph.add(ggml_cpy(graph.context(), values, hidden_view(graph, begin, end)));
    }

    Result<void> embed(int64_t begin, int64_t end) {
        Graph graph(kNodes);
        ggml_tensor* ids = graph.input(GGML_TYPE_I32, end - begin);
        ggml_tensor* positions = graph.input(GGML_TYPE_I32, end - begin);
        write_hidden(graph, layer_graph(graph).embed(ids, positions), begin, end);
        if (auto allocated = runner_.allocate(graph); !allocated) return allocated;
        set_numbers<int32_t>(positions, state_.progress.n_tokens + begin);
        set_input(ids, tokens_.subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin)));
        return runner_.compute(graph);
    }

    /// Tokens [begin, end) of the segment through one layer. In the last one attention and what follows are for the
    /// outputs alone.
    Result<void> run_chunk(int32_t layer, int64_t begin, int64_t end) {
        const bool last = layer == h_.n_layer - 1;
        const int64_t output_begin = last ? std::min(std::max(begin, first_output_), end) : begin;

        Graph graph(LayerGraph::most_nodes(h_) + kNodesPerRing * states_.size());
        const LayerGraph nodes = layer_graph(graph);
        ggml_tensor* hidden = read_hidden(graph, begin, end);
        ggml_tensor* input = nodes.attention_input(layer, hidden);
        ggml_tensor* positions = graph.input(GGML_TYPE_I32, end - begin);
        const auto projected = nodes.project(layer, input, positions);
        ggml_tensor* slots = graph.input(GGML_TYPE_I64, end - begin);
        graph.add(flight_.put(graph, projected.key, flight_.buffer().k(), slots));
        graph.add(flight_.put(graph, projected.value, flight_.buffer().v(), slots));

        ggml_tensor* query = projected.query;
        const bool sums = sums_attention_ && !is_sliding(layer);
        ggml_tensor* ring_rows = store_window_queries(graph, layer, query, begin, end);
        if (sums) {
            ggml_tensor* to = ggml_view_3d(graph.context(), chunk_queries_, query->ne[0], query->ne[1], end - begin,
                                           query->nb[1], chunk_queries_->nb[1], 0);
            graph.add(ggml_cpy(graph.context(), query, to));
        }
        Attended attended;
        if (output_begin < end) {
            ggml_tensor* out_query =
                ggml_view_3d(graph.context(), query, query->ne[0], query->ne[1], end - output_begin, query->nb[1],
                             query->nb[2], static_cast<size_t>(output_begin - begin) * query->nb[2]);
            attended = attend(graph, state_.config.engine->attention, nodes, layer, out_query,
                              {{.buffer = &flight_.buffer(), .heads = flight_.slots(n_segment_ - end)}});
            ggml_tensor* residual =
                ggml_view_2d(graph.context(), hidden, hidden->ne[0], end - output_begin, hidden->nb[1],
                             static_cast<size_t>(output_begin - begin) * hidden->nb[1]);
            write_hidden(graph, nodes.finish(layer, residual, attended.node), output_begin, end);
        }
        if (auto allocated = runner_.allocate(graph); !allocated) return allocated;
        set_numbers<int32_t>(positions, state_.progress.n_tokens + begin);
        set_numbers<int64_t>(slots, flight_.segment_begin() + begin);
        if (ring_rows != nullptr) set_ring_rows(ring_rows, end);
        set_masks(attended);
        if (auto computed = runner_.compute(graph); !computed || !sums) return computed;
        return sum_attention(layer, begin, end);
    }

    /// Adds the attention of the queries [begin, end) to the sums.
    Result<void> sum_attention(int32_t layer, int64_t begin, int64_t end) {
        AttentionInput input{.queries = chunk_queries_,
                             .window = {},
                             .k = flight_.buffer().k(),
                             .heads = flight_.slots(n_segment_ - end),
                             .sinks = state_.config.sinks(layer)};
        for (int64_t i = begin; i < end; i++) input.window.push_back({.row = i - begin, .unseen = end - 1 - i});
        std::vector<std::span<float>> sums;
        for (size_t head = 0; head < input.heads.size(); head++)
            sums.push_back(std::span(flight_.sums()[head]).first(static_cast<size_t>(input.heads[head].length)));
        return add_attention(analysis_, *state_.config.engine, input, sums);
    }

    /// Copies the queries of those tokens of [begin, end) that belong to the window into the layer's rings. The input
    /// that says in which rows; null where there are none.
    ggml_tensor* store_window_queries(Graph& graph, int32_t layer, ggml_tensor* query, int64_t begin, int64_t end) {
        const int64_t from = std::max(begin, n_segment_ - n_window_);
        const auto has_ring = [&](const SequenceParts* state) { return state->cache.queries.layer(layer) != nullptr; };
        if (from >= end || std::ranges::none_of(states_, has_ring)) return nullptr;
        ggml_tensor* at = graph.input(GGML_TYPE_I64, end - from);
        ggml_tensor* rows = ggml_view_2d(graph.context(), query, query->ne[0] * query->ne[1], end - from, query->nb[2],
                                         static_cast<size_t>(from - begin) * query->nb[2]);
        for (const SequenceParts* state : states_) {
            if (!has_ring(state)) continue;
            graph.add(ggml_set_rows(graph.context(), state->cache.queries.layer(layer), rows, at));
        }
        return at;
    }

    /// The rows of the last queries before `end`, as many as the input holds.
    void set_ring_rows(ggml_tensor* at, int64_t end) const {
        std::vector<int64_t> numbers;
        const int64_t in_window = end - at->ne[0] - (n_segment_ - n_window_);
        for (int64_t i = 0; i < at->ne[0]; i++)
            numbers.push_back((first_row_ + in_window + i) % state_.config.options.window);
        set_input<int64_t>(at, numbers);
    }

    /// Sets an input to consecutive numbers.
    template <typename T>
    static void set_numbers(ggml_tensor* input, int64_t first) {
        std::vector<T> numbers(static_cast<size_t>(input->ne[0]));
        std::iota(numbers.begin(), numbers.end(), static_cast<T>(first));
        set_input<T>(input, numbers);
    }

    Result<void> store_layer(int32_t layer) {
        auto keys = flight_.keys(state_.config.options.window);
        if (is_sliding(layer)) {
            for (SequenceParts* state : states_) keep_window(*state, layer, keys);
            return {};
        }
        auto stats = analyse(layer, keys);
        if (!stats) return std::unexpected(stats.error());
        keys.stats = *stats ? &**stats : nullptr;
        for (auto& eviction : evictions_) {
            if (auto joined = eviction.join(layer, keys); !joined) return joined;
        }
        return {};
    }

    /// The layer's window attention, where a policy reads it: once for all sequences.
    Result<std::optional<AttentionStats>> analyse(int32_t layer, const LayerKeys& keys) {
        const SequenceParts* reader = nullptr;
        for (size_t i = 0; i < states_.size(); i++)
            if (evictions_[i].reads_window()) reader = states_[i];
        if (reader == nullptr) return std::nullopt;
        auto stats = analyse_window(analysis_, *reader, layer, keys);
        if (!stats) return std::unexpected(stats.error());
        return std::move(*stats);
    }

    Result<void> compute_logits() {
        const auto n_vocab = static_cast<size_t>(h_.n_vocab);
        state_.progress.logits.resize(n_vocab * static_cast<size_t>(n_segment_ - first_output_));
        for (int64_t begin = first_output_; begin < n_segment_; begin += kLogitsPerGraph) {
            const int64_t end = std::min(begin + kLogitsPerGraph, n_segment_);
            Graph graph(kNodes);
            ggml_tensor* logits = graph.output(layer_graph(graph).logits(read_hidden(graph, begin, end)));
            if (auto allocated = runner_.allocate(graph); !allocated) return allocated;
            if (auto computed = runner_.compute(graph); !computed) return computed;
            ggml_backend_tensor_get(
                logits, state_.progress.logits.data() + n_vocab * static_cast<size_t>(begin - first_output_), 0,
                ggml_nbytes(logits));
        }
        return {};
    }

    std::span<SequenceParts* const> states_;
    SequenceParts& state_;       // the first of them
    const SequenceParts* base_;  // holds the text before, where the states do not
    const Hparams& h_;
    std::span<const Token> tokens_;
    int64_t n_segment_;
    int64_t n_window_;
    int64_t first_output_;
    int32_t first_row_ = 0;  // of the ring, where the window's first query goes
    GraphRunner runner_;
    GraphRunner analysis_;
    bool sums_attention_;
    std::vector<SegmentEviction> evictions_;  // by state

    LayerInFlight flight_;
    AccountedBuffer hidden_buffer_;
    ggml_context_ptr context_;
    ggml_tensor* hidden_ = nullptr;  // [n_embd, n_segment]
    AccountedBuffer chunk_buffer_;
    ggml_tensor* chunk_queries_ = nullptr;  // f32 [head_dim_k * n_head, n_batch]
};

}  // namespace

std::generator<Result<int64_t>> prefill(std::span<SequenceParts* const> states, std::span<const Token> tokens,
                                        bool all_logits, const SequenceParts* base) {
    Prefill work(states, tokens, all_logits, base);
    co_yield std::ranges::elements_of(work.run());
}

}  // namespace cake
