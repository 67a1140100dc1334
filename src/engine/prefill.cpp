#include "engine/prefill.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>

#include "engine/eviction.hpp"
#include "engine/graph.hpp"
#include "engine/window_analysis.hpp"
#include "method/allocator.hpp"
#include "model/layer_graph.hpp"

namespace cake {

namespace {

constexpr size_t kNodesPerLayer = 64;
constexpr size_t kNodesPerRing = 4;
constexpr int64_t kLogitsPerGraph = 64;

class Prefill {
  public:
    Prefill(std::span<SequenceState* const> states, std::span<const Token> tokens, const AppendOptions& options)
        : states_(states),
          state_(*states.front()),
          h_(state_.hparams()),
          options_(options),
          tokens_(tokens),
          n_segment_(static_cast<int64_t>(tokens.size())),
          n_window_(std::min<int64_t>(state_.options.window, n_segment_)),
          first_output_(options.all_logits ? 0 : n_segment_ - 1),
          runner_(state_.engine->compute, state_.accountant) {
        for (SequenceState* state : states) evictions_.emplace_back(*state, n_segment_);
    }

    Result<void> run() {
        if (auto allocated = allocate(); !allocated) return allocated;
        if (auto embedded = embed(); !embedded) return embedded;
        for (int32_t layer = 0; layer < h_.n_layer; layer++) {
            take_kept(layer);
            for (int64_t begin = 0; begin < n_segment_; begin += n_batch()) {
                if (auto chunk = run_chunk(layer, begin, std::min(begin + n_batch(), n_segment_)); !chunk) return chunk;
                if (!report_progress(layer, begin)) return fail("cancelled");
            }
            if (auto stored = store_layer(layer); !stored) return stored;
        }
        if (auto computed = compute_logits(); !computed) return computed;
        for (SequenceState* state : states_) {
            state->n_tokens += n_segment_;
            state->ring.n_filled = static_cast<int32_t>(n_window_);
            state->ring.next = static_cast<int32_t>(n_window_ % state->options.window);
            if (state != &state_) state->logits = state_.logits;
        }
        for (auto& eviction : evictions_) eviction.make_room_for_decoding();
        return {};
    }

  private:
    int64_t n_batch() const { return state_.engine->options.n_batch; }

    Result<void> allocate() {
        for (int32_t layer = 0; layer < h_.n_layer; layer++) {
            n_row_ = std::max(n_row_, state_.store.length(layer) + n_segment_);
        }
        auto* type = state_.engine->compute.buffer_type();
        auto flight = KvBuffer::allocate(state_.accountant, type, state_.shape, n_row_ * h_.n_head_kv,
                                         "one layer's K and V of the text");
        if (!flight) return std::unexpected(flight.error());
        flight_ = std::move(*flight);
        state_.layer_bytes = std::max<uint64_t>(state_.layer_bytes, flight_.size_bytes());

        const auto n_hidden = static_cast<size_t>(n_segment_) * static_cast<size_t>(h_.n_embd);
        const bool large = n_hidden * sizeof(float) > state_.most_hidden_f32_bytes;
        const ggml_type hidden_type = large ? GGML_TYPE_F16 : GGML_TYPE_F32;
        auto hidden = AccountedBuffer::allocate(state_.accountant, MemoryUse::hidden, type,
                                                n_hidden * ggml_type_size(hidden_type), "the text's hidden states");
        if (!hidden) return std::unexpected(hidden.error());
        hidden_buffer_ = std::move(*hidden);
        context_.reset(ggml_init({.mem_size = ggml_tensor_overhead(), .mem_buffer = nullptr, .no_alloc = true}));
        hidden_ = ggml_new_tensor_2d(context_.get(), hidden_type, h_.n_embd, n_segment_);
        ggml_backend_tensor_alloc(hidden_buffer_.get(), hidden_, ggml_backend_buffer_get_base(hidden_buffer_.get()));
        return {};
    }

    LayerGraph layer_graph(Graph& graph) const { return {graph.context(), h_, state_.engine->weights}; }

    ggml_tensor* hidden_view(Graph& graph, int64_t begin, int64_t end) const {
        return ggml_view_2d(graph.context(), hidden_, h_.n_embd, end - begin, hidden_->nb[1],
                            static_cast<size_t>(begin) * hidden_->nb[1]);
    }

    ggml_tensor* read_hidden(Graph& graph, int64_t begin, int64_t end) const {
        ggml_tensor* view = hidden_view(graph, begin, end);
        return hidden_->type == GGML_TYPE_F32 ? view : ggml_cast(graph.context(), view, GGML_TYPE_F32);
    }

    void write_hidden(Graph& graph, ggml_tensor* values, int64_t begin, int64_t end) const {
        if (hidden_->type == GGML_TYPE_F16) values = ggml_clamp(graph.context(), values, -65504.0F, 65504.0F);
        graph.add(ggml_cpy(graph.context(), values, hidden_view(graph, begin, end)));
    }

    Result<void> embed() {
        for (int64_t begin = 0; begin < n_segment_; begin += n_batch()) {
            const int64_t end = std::min(begin + n_batch(), n_segment_);
            Graph graph(kNodesPerLayer);
            ggml_tensor* ids = graph.input(GGML_TYPE_I32, end - begin);
            write_hidden(graph, layer_graph(graph).embed(ids), begin, end);
            if (auto allocated = runner_.allocate(graph); !allocated) return allocated;
            set_input(ids, tokens_.subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin)));
            if (auto computed = runner_.compute(graph); !computed) return computed;
        }
        return {};
    }

    /// Moves what the layer kept of earlier segments to the front of the layer in flight.
    void take_kept(int32_t layer) {
        auto& store = state_.store;
        n_kept_ = store.length(layer);
        positions_.assign(static_cast<size_t>(h_.n_head_kv), {});
        for (int32_t head = 0; head < h_.n_head_kv; head++) {
            auto& positions = positions_[static_cast<size_t>(head)];
            positions.assign_range(store.positions(layer, head));
            positions.resize(static_cast<size_t>(n_kept_ + n_segment_));
            std::iota(positions.begin() + n_kept_, positions.end(), static_cast<int32_t>(state_.n_tokens));
            const auto run = store.runs(layer)[static_cast<size_t>(head)];
            const SlotMove move{.from = run.begin, .to = head * n_row_, .length = run.length};
            move_slots(store.buffer(), flight_, {&move, 1});
            store.keep(layer, head, {});
        }
    }

    /// A view of the layer in flight: its first `n_tokens` tokens of all KV heads.
    ggml_tensor* flight_view(Graph& graph, ggml_tensor* rows, int64_t n_tokens) const {
        return ggml_view_3d(graph.context(), rows, rows->ne[0], n_tokens, h_.n_head_kv, rows->nb[1],
                            static_cast<size_t>(n_row_) * rows->nb[1], 0);
    }

    /// Puts a chunk's K or V, [head_dim, n_head_kv, n], into the rows `slots` of every KV head.
    void store_in_flight(Graph& graph, ggml_tensor* values, ggml_tensor* rows, ggml_tensor* slots) const {
        ggml_tensor* by_head = ggml_permute(graph.context(), values, 0, 2, 1, 3);
        graph.add(ggml_set_rows(graph.context(), flight_view(graph, rows, n_row_), by_head, slots));
    }

    /// Tokens [begin, end) of the segment through one layer. In the last layer only K and V of all tokens are needed,
    /// queries for the window and the outputs, and the rest for the outputs.
    Result<void> run_chunk(int32_t layer, int64_t begin, int64_t end) {
        const bool last = layer == h_.n_layer - 1;
        const int64_t first_query = last ? std::min(first_output_, n_segment_ - n_window_) : 0;
        const int64_t query_begin = std::min(std::max(begin, first_query), end);
        const int64_t output_begin = last ? std::min(std::max(begin, first_output_), end) : begin;

        Graph graph(kNodesPerLayer + kNodesPerRing * states_.size());
        const LayerGraph nodes = layer_graph(graph);
        const auto suffix = [&](ggml_tensor* x, int64_t from) {
            return from == begin ? x
                                 : ggml_view_2d(graph.context(), x, x->ne[0], end - from, x->nb[1],
                                                static_cast<size_t>(from - begin) * x->nb[1]);
        };
        ggml_tensor* hidden = read_hidden(graph, begin, end);
        ggml_tensor* input = nodes.attention_input(layer, hidden);
        ggml_tensor* positions = graph.input(GGML_TYPE_I32, end - begin);
        ggml_tensor* slots = graph.input(GGML_TYPE_I64, end - begin);
        store_in_flight(graph, nodes.key(layer, input, positions), flight_.k(), slots);
        store_in_flight(graph, nodes.value(layer, input), flight_.v(), slots);

        ggml_tensor* mask = nullptr;
        if (query_begin < end) {
            ggml_tensor* query_positions = ggml_view_1d(graph.context(), positions, end - query_begin,
                                                        static_cast<size_t>(query_begin - begin) * sizeof(int32_t));
            ggml_tensor* query = nodes.query(layer, suffix(input, query_begin), query_positions);
            store_window_queries(graph, layer, query, query_begin, end);
            if (output_begin < end) {
                mask = graph.input(GGML_TYPE_F16, n_kept_ + end, end - output_begin);
                ggml_tensor* out_query =
                    ggml_view_3d(graph.context(), query, query->ne[0], query->ne[1], end - output_begin, query->nb[1],
                                 query->nb[2], static_cast<size_t>(output_begin - query_begin) * query->nb[2]);
                ggml_tensor* attention = nodes.attend(out_query, flight_view(graph, flight_.k(), n_kept_ + end),
                                                      flight_view(graph, flight_.v(), n_kept_ + end), mask);
                write_hidden(graph, nodes.finish(layer, suffix(hidden, output_begin), attention), output_begin, end);
            }
        }
        if (auto allocated = runner_.allocate(graph); !allocated) return allocated;
        set_numbers<int32_t>(positions, state_.n_tokens + begin);
        set_numbers<int64_t>(slots, n_kept_ + begin);
        if (mask != nullptr) set_causal_mask(mask, output_begin);
        return runner_.compute(graph);
    }

    /// Copies the queries of those tokens of [begin, end) that belong to the window into the layer's rings.
    void store_window_queries(Graph& graph, int32_t layer, ggml_tensor* query, int64_t begin, int64_t end) {
        const int64_t from = std::max(begin, n_segment_ - n_window_);
        if (from >= end) return;
        for (const SequenceState* state : states_) {
            if (!state->reads_attention()) continue;
            ggml_tensor* ring = state->ring.layers[static_cast<size_t>(layer)];
            ggml_tensor* rows = ggml_view_2d(graph.context(), query, ring->ne[0], end - from, query->nb[2],
                                             static_cast<size_t>(from - begin) * query->nb[2]);
            ggml_tensor* to = ggml_view_2d(graph.context(), ring, ring->ne[0], end - from, ring->nb[1],
                                           static_cast<size_t>(from - (n_segment_ - n_window_)) * ring->nb[1]);
            graph.add(ggml_cpy(graph.context(), rows, to));
        }
    }

    /// Sets an input to consecutive numbers.
    template <typename T>
    static void set_numbers(ggml_tensor* input, int64_t first) {
        std::vector<T> numbers(static_cast<size_t>(input->ne[0]));
        std::iota(numbers.begin(), numbers.end(), static_cast<T>(first));
        set_input<T>(input, numbers);
    }

    /// Token i of the segment sees all that was kept and the segment up to itself.
    void set_causal_mask(ggml_tensor* mask, int64_t first) const {
        std::vector<ggml_fp16_t> row(static_cast<size_t>(mask->ne[0]), ggml_fp32_to_fp16(-INFINITY));
        std::fill_n(row.begin(), n_kept_ + first, ggml_fp32_to_fp16(0.0F));
        for (int64_t i = 0; i < mask->ne[1]; i++) {
            row[static_cast<size_t>(n_kept_ + first + i)] = ggml_fp32_to_fp16(0.0F);
            ggml_backend_tensor_set(mask, row.data(), static_cast<size_t>(i) * mask->nb[1], mask->nb[1]);
        }
    }

    Result<void> store_layer(int32_t layer) {
        std::vector<int64_t> head_begin;
        for (int32_t head = 0; head < h_.n_head_kv; head++) head_begin.push_back(head * n_row_);
        auto stats = analyze(layer, head_begin);
        if (!stats) return std::unexpected(stats.error());
        for (auto& eviction : evictions_)
            eviction.join(layer, flight_, head_begin, positions_, *stats ? &**stats : nullptr);
        return {};
    }

    /// The layer's window attention, where a policy reads it: once for all sequences.
    Result<std::optional<AttentionStats>> analyze(int32_t layer, const std::vector<int64_t>& head_begin) {
        const SequenceState* reader = nullptr;
        auto dispersion = Dispersion::skip;
        for (size_t i = 0; i < states_.size(); i++) {
            if (!evictions_[i].reads_attention()) continue;
            reader = states_[i];
            if (reader->allocator->reads_attention) dispersion = Dispersion::sum;
        }
        if (reader == nullptr) return std::nullopt;
        const int64_t n_total = n_kept_ + n_segment_;
        std::vector<int32_t> visible;
        for (int64_t i = n_window_; i-- > 0;) visible.push_back(static_cast<int32_t>(n_total - i));
        auto stats = analyze_window(runner_, h_,
                                    {.queries = reader->ring.layers[static_cast<size_t>(layer)],
                                     .visible = std::move(visible),
                                     .k = flight_.k(),
                                     .head_begin = head_begin,
                                     .n_total = n_total,
                                     .n_keys = n_total - std::min<int64_t>(reader->options.window, n_total)},
                                    dispersion);
        if (!stats) return std::unexpected(stats.error());
        return std::move(*stats);
    }

    bool report_progress(int32_t layer, int64_t begin) const {
        if (!options_.progress) return true;
        const double share =
            (layer + static_cast<double>(std::min(begin + n_batch(), n_segment_)) / static_cast<double>(n_segment_)) /
            h_.n_layer;
        return options_.progress(static_cast<int64_t>(share * static_cast<double>(n_segment_)), n_segment_);
    }

    Result<void> compute_logits() {
        const auto n_vocab = static_cast<size_t>(h_.n_vocab);
        state_.logits.resize(n_vocab * static_cast<size_t>(n_segment_ - first_output_));
        for (int64_t begin = first_output_; begin < n_segment_; begin += kLogitsPerGraph) {
            const int64_t end = std::min(begin + kLogitsPerGraph, n_segment_);
            Graph graph(kNodesPerLayer);
            ggml_tensor* logits = graph.output(layer_graph(graph).logits(read_hidden(graph, begin, end)));
            if (auto allocated = runner_.allocate(graph); !allocated) return allocated;
            if (auto computed = runner_.compute(graph); !computed) return computed;
            ggml_backend_tensor_get(logits, state_.logits.data() + n_vocab * static_cast<size_t>(begin - first_output_),
                                    0, ggml_nbytes(logits));
        }
        return {};
    }

    std::span<SequenceState* const> states_;
    SequenceState& state_;  // the first of them
    const Hparams& h_;
    const AppendOptions& options_;
    std::span<const Token> tokens_;
    int64_t n_segment_;
    int64_t n_window_;
    int64_t first_output_;
    GraphRunner runner_;
    std::vector<SegmentEviction> evictions_;  // by state

    KvBuffer flight_;                              // one layer, [kept | segment] for each KV head
    int64_t n_row_ = 0;                            // tokens that a KV head has room for there
    int64_t n_kept_ = 0;                           // tokens of the current layer that earlier segments left
    std::vector<std::vector<int32_t>> positions_;  // by KV head, of the tokens in flight
    AccountedBuffer hidden_buffer_;
    ggml_context_ptr context_;
    ggml_tensor* hidden_ = nullptr;  // [n_embd, n_segment]
};

}  // namespace

Result<void> prefill(std::span<SequenceState* const> states, std::span<const Token> tokens,
                     const AppendOptions& options) {
    return Prefill(states, tokens, options).run();
}

}  // namespace cake
