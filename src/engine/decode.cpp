#include "engine/decode.hpp"

#include <algorithm>
#include <optional>
#include <utility>

#include "engine/forward_layer.hpp"
#include "engine/text_prefill.hpp"
#include "eviction/decode_eviction.hpp"
#include "eviction/layer_keys.hpp"
#include "eviction/sliding_window.hpp"

namespace cake {

namespace {

class Decode {
  public:
    Decode(std::span<const NextToken> batch, GraphRunner& runner)
        : batch_(batch),
          n_(static_cast<int64_t>(batch.size())),
          engine_(*batch.front().state->config.engine),
          h_(engine_.hparams),
          runner_(runner),
          graph_((LayerGraph::max_nodes(h_) + batch.size() * nodes_of_sequence()) *
                 (static_cast<size_t>(h_.n_layer) + 2)),
          nodes_(graph_.context(), h_, engine_.weights) {}

    Result<void> run() {
        for (const auto& next : batch_) place(next);
        build();
        if (auto allocated = runner_.allocate(graph_); !allocated) return allocated;
        set_input<int32_t>(tokens_.tensor, tokens_.numbers);
        set_input<int32_t>(positions_.tensor, positions_.numbers);
        set_input<int64_t>(slots_.tensor, slots_.numbers);
        set_input<int64_t>(ring_rows_.tensor, ring_rows_.numbers);
        for (const auto& attended : attended_) set_masks(attended);
        if (auto computed = runner_.compute(graph_); !computed) return computed;
        for (size_t i = 0; i < batch_.size(); i++) {
            auto& state = *batch_[i].state;
            state.next.logits.resize(static_cast<size_t>(h_.n_vocab));
            ggml_backend_tensor_get(logits_, state.next.logits.data(), i * logits_->nb[1], logits_->nb[1]);
            state.progress.n_tokens++;
        }
        return {};
    }

  private:
    /// Number of nodes that a sequence adds to a layer: they write K, V and the query, or compute a recurrence. ggml
    /// may also need nodes for each KV head.
    size_t nodes_of_sequence() const {
        constexpr size_t kWritten = 16;
        constexpr size_t kRecurrent = 48;
        constexpr size_t kNodesPerHead = 12;
        return kWritten + (h_.has_recurrent() ? kRecurrent : 0) +
               (engine_.attention.kernels && engine_.compute.is_cpu()
                    ? 0
                    : kNodesPerHead * static_cast<size_t>(h_.max_head_kv()));
    }

    /// Assigns the next slot of every layer and KV head, and the next row of the query ring, to the token.
    void place(const NextToken& next) {
        auto& state = *next.state;
        const auto position = static_cast<int32_t>(state.progress.n_tokens);
        tokens_.numbers.push_back(next.token);
        positions_.numbers.push_back(position);
        for (int32_t layer = 0; layer < h_.n_layer; layer++) {
            const size_t end = slots_.numbers.size() + static_cast<size_t>(h_.max_head_kv());
            if (state.config.layout.holds_tokens(layer)) {
                auto& store = state.cache.of(layer);
                for (const Run& run : store.runs(layer)) slots_.numbers.push_back(run.begin + run.length);
                store.push(layer, position);
            }
            slots_.numbers.resize(end);
        }
        if (state.config.sums_attention())
            for (const int32_t layer : state.cache.sliced.layers())
                state.progress.n_unread[static_cast<size_t>(layer)]++;
        ring_rows_.numbers.push_back(state.cache.queries.next());
        state.cache.queries.push(1);
    }

    void build() {
        tokens_.tensor = graph_.input(GGML_TYPE_I32, n_);
        positions_.tensor = graph_.input(GGML_TYPE_I32, n_);
        slots_.tensor = graph_.input(GGML_TYPE_I64, h_.max_head_kv(), h_.n_layer * n_);
        ring_rows_.tensor = graph_.input(GGML_TYPE_I64, n_);
        ggml_tensor* hidden = nodes_.embed(tokens_.tensor, positions_.tensor);
        for (int32_t layer = 0; layer < h_.n_layer; layer++) hidden = build_layer(layer, hidden);
        logits_ = graph_.output(nodes_.logits(hidden));
    }

    ggml_tensor* build_layer(int32_t layer, ggml_tensor* hidden) {
        std::vector<ggml_tensor*> states;
        if (h_.has_state(layer))
            for (const auto& next : batch_) states.push_back(next.state->cache.recurrent.layer(layer));
        if (h_.is_recurrent(layer)) return forward_recurrent_layer(graph_, nodes_, layer, hidden, n_, states);
        const auto sink = [&](const Projections& projected) {
            std::vector<AttendedSlots> slots;
            for (int64_t i = 0; i < n_; i++) slots.push_back(store_token(layer, projected, i));
            return slots;
        };
        const LayerInput input{
            .hidden = hidden, .positions = positions_.tensor, .tokens = tokens_.tensor, .states = states};
        auto output = forward_layer(graph_, engine_.attention, nodes_, layer, input, n_, sink);
        attended_.push_back(std::move(output.attended));
        return output.hidden;
    }

    /// Writes K, V and query of token `i` to the cache of its sequence. Returns the slots that it attends to.
    AttendedSlots store_token(int32_t layer, const Projections& projected, int64_t i) {
        const auto& cache = batch_[static_cast<size_t>(i)].state->cache;
        const int32_t kv_layer = h_.kv_layer(layer);
        const auto& store = cache.of(kv_layer);
        ggml_tensor* slots = slots_of(i * h_.n_layer + layer, store.shape().n_head_kv);
        const auto& buffer = store.buffer(kv_layer);
        if (projected.key != nullptr) write_rows(buffer.k(), projected.key, i, slots);
        if (projected.value != nullptr) write_rows(buffer.v(), projected.value, i, slots);
        if (ggml_tensor* queries = cache.queries.layer(layer); queries != nullptr) {
            ggml_tensor* row =
                ggml_view_1d(graph_.context(), ring_rows_.tensor, 1, static_cast<size_t>(i) * sizeof(int64_t));
            write_rows(queries, projected.query, i, row);
        }
        return {.k = buffer.k(), .v = buffer.v(), .heads = held_slots(store, kv_layer)};
    }

    ggml_tensor* slots_of(int64_t row, int64_t n_head_kv) const {
        return ggml_view_1d(graph_.context(), slots_.tensor, n_head_kv,
                            static_cast<size_t>(row) * slots_.tensor->nb[1]);
    }

    /// Writes the vectors of token `i` to the rows `at` of `rows`: one head in each row for K and V, all heads in one
    /// row for the query ring.
    void write_rows(ggml_tensor* rows, ggml_tensor* values, int64_t i, ggml_tensor* at) {
        auto* context = graph_.context();
        ggml_tensor* of_token = ggml_view_2d(context, values, values->ne[0] * values->ne[1] / at->ne[0], at->ne[0],
                                             rows->ne[0] * sizeof(float), static_cast<size_t>(i) * values->nb[2]);
        graph_.add(ggml_set_rows(context, rows, of_token, at));
    }

    /// An input of the graph and the numbers to set it to.
    template <typename T>
    struct Input {
        std::vector<T> numbers{};
        ggml_tensor* tensor = nullptr;
    };

    std::span<const NextToken> batch_;
    int64_t n_;
    const EngineState& engine_;
    const Hparams& h_;
    GraphRunner& runner_;
    Graph graph_;
    LayerGraph nodes_;
    Input<int32_t> tokens_;
    Input<int32_t> positions_;
    Input<int64_t> slots_;  // [Hparams::max_head_kv(), n_layer, n]
    Input<int64_t> ring_rows_;
    std::vector<Attended> attended_;  // by layer
    ggml_tensor* logits_ = nullptr;
};

bool is_full(const SequenceParts& state, int32_t layer) {
    return std::ranges::any_of(state.cache.sliced.runs(layer),
                               [](const Run& run) { return run.length == run.capacity; });
}

bool is_any_full(const SequenceParts& state) {
    return std::ranges::any_of(state.cache.sliced.layers(), [&](int32_t layer) { return is_full(state, layer); });
}

}  // namespace

Result<void> check_room_for_token(const SequenceParts& state) {
    if (auto room = check_room(state, 1); !room) return room;
    const QueryRing& queries = state.cache.queries;
    if (queries.is_kept() && queries.n_filled() == 0 && is_any_full(state))
        return fail("the session holds no queries, which choose what is evicted: append a text first");
    return {};
}

Result<void> make_room_for_token(SequenceParts& state) {
    if (auto room = check_room_for_token(state); !room) return room;
    const auto managed = state.managed();
    std::optional<GraphRunner> analysis;  // created on first use, because most tokens evict nothing
    const auto runner = [&] -> GraphRunner& {
        if (!analysis) analysis.emplace(state.config.engine->compute, state.accountant);
        return *analysis;
    };
    if (state.config.evicts() && is_any_full(state) && holds_whole_text(managed)) {
        if (auto sliced = slice_decoded(runner(), managed); !sliced) return sliced;
    }
    for (const int32_t layer : state.cache.sliced.layers()) {
        const bool full = is_full(state, layer);
        const bool forgets = state.config.sums_attention() &&
                             state.progress.n_unread[static_cast<size_t>(layer)] == state.config.options.window;
        if (!full && !forgets) continue;
        auto done = full ? evict_decoded(runner(), managed, layer) : add_decoded_attention(runner(), managed, layer);
        if (!done) return done;
    }
    for (const int32_t layer : state.cache.sliding.layers()) slide_window(managed, layer);
    return {};
}

Result<void> decode(std::span<const NextToken> batch, GraphRunner& runner) {
    return Decode(batch, runner).run();
}

}  // namespace cake
