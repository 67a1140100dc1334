#include "engine/decode.hpp"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "engine/forward_layer.hpp"
#include "engine/sequence_parts.hpp"
#include "engine/text_prefill.hpp"
#include "eviction/decode_eviction.hpp"
#include "eviction/layer_keys.hpp"
#include "eviction/sliding_window.hpp"

namespace cake {

namespace {

/// Inputs of a graph that decodes n tokens.
struct Places {
    std::vector<int32_t> tokens;
    std::vector<int32_t> positions;
    std::vector<int64_t> slots;  // [Hparams::max_head_kv(), n_layer, n]
    std::vector<int64_t> ring_rows;
};

/// Assigns the next slot of every layer and KV head, and the next row of the query ring, to a token.
void place(const NextToken& next, Places& places) {
    auto& state = *next.state;
    const Hparams& h = state.config.hparams();
    const auto position = static_cast<int32_t>(state.progress.n_tokens);
    places.tokens.push_back(next.token);
    places.positions.push_back(position);
    for (int32_t layer = 0; layer < h.n_layer; layer++) {
        const size_t end = places.slots.size() + static_cast<size_t>(h.max_head_kv());
        if (state.config.layout.holds_tokens(layer)) {
            auto& store = state.cache.of(layer);
            for (const Run& run : store.runs(layer)) places.slots.push_back(run.begin + run.length);
            store.push(layer, position);
        }
        places.slots.resize(end);
    }
    if (state.config.sums_attention())
        for (const int32_t layer : state.cache.sliced.layers()) state.progress.n_unread[static_cast<size_t>(layer)]++;
    places.ring_rows.push_back(state.cache.queries.next());
    state.cache.queries.push(1);
}

}  // namespace

/// The graph that decodes the next token of each of some sequences.
class DecodeGraph {
  public:
    /// The tokens must have their places.
    explicit DecodeGraph(std::span<const NextToken> batch)
        : n_(static_cast<int64_t>(batch.size())),
          engine_(*batch.front().state->config.engine),
          h_(engine_.hparams),
          graph_((LayerGraph::max_nodes(h_) + batch.size() * nodes_of_sequence()) *
                 (static_cast<size_t>(h_.n_layer) + 2)),
          nodes_(graph_.context(), h_, engine_.weights) {
        for (const auto& next : batch) cache_ids_.push_back(next.state->cache.id);
        build(batch);
    }

    Graph& graph() { return graph_; }

    /// True if the graph can be computed again. ggml's attention is bound to its slots, and a scheduler needs a new
    /// graph each time.
    bool is_reusable() const { return engine_.compute.is_cpu() && engine_.attention.kernels; }

    /// Prepares the graph, which was computed before, for tokens that have their places. Returns false if another has
    /// to be built.
    bool follow(std::span<const NextToken> batch) {
        if (!std::ranges::equal(batch, cache_ids_, {}, [](const NextToken& next) { return next.state->cache.id; }))
            return false;
        return std::ranges::all_of(attended_, [&](const AttendedLayer& layer) {
            std::vector<std::vector<HeadSlots>> slots;
            for (const auto& next : batch) slots.push_back(held_slots_of(*next.state, layer.kv_layer));
            return set_slots(layer.attended, std::move(slots));
        });
    }

    void set(const Places& places) {
        set_input<int32_t>(tokens_, places.tokens);
        set_input<int32_t>(positions_, places.positions);
        set_input<int64_t>(slots_, places.slots);
        set_input<int64_t>(ring_rows_, places.ring_rows);
        for (const auto& layer : attended_) set_masks(layer.attended);
    }

    /// The logits of token `i` of the batch.
    void read_logits(size_t i, std::vector<float>& logits) const {
        logits.resize(static_cast<size_t>(h_.n_vocab));
        ggml_backend_tensor_get(logits_, logits.data(), i * logits_->nb[1], logits_->nb[1]);
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

    static std::vector<HeadSlots> held_slots_of(const SequenceParts& state, int32_t kv_layer) {
        return held_slots(state.cache.of(kv_layer), kv_layer);
    }

    void build(std::span<const NextToken> batch) {
        tokens_ = graph_.input(GGML_TYPE_I32, n_);
        positions_ = graph_.input(GGML_TYPE_I32, n_);
        slots_ = graph_.input(GGML_TYPE_I64, h_.max_head_kv(), h_.n_layer * n_);
        ring_rows_ = graph_.input(GGML_TYPE_I64, n_);
        ggml_tensor* hidden = nodes_.embed(tokens_, positions_);
        for (int32_t layer = 0; layer < h_.n_layer; layer++) hidden = build_layer(batch, layer, hidden);
        logits_ = graph_.output(nodes_.logits(hidden));
    }

    ggml_tensor* build_layer(std::span<const NextToken> batch, int32_t layer, ggml_tensor* hidden) {
        std::vector<ggml_tensor*> states;
        if (h_.has_state(layer))
            for (const auto& next : batch) states.push_back(next.state->cache.recurrent.layer(layer));
        if (h_.is_recurrent(layer)) return forward_recurrent_layer(graph_, nodes_, layer, hidden, n_, states);
        const auto sink = [&](const Projections& projected) {
            std::vector<AttendedSlots> slots;
            for (size_t i = 0; i < batch.size(); i++)
                slots.push_back(store_token(*batch[i].state, layer, projected, static_cast<int64_t>(i)));
            return slots;
        };
        const LayerInput input{.hidden = hidden, .positions = positions_, .tokens = tokens_, .states = states};
        auto output = forward_layer(graph_, engine_.attention, nodes_, layer, input, n_, sink);
        attended_.push_back({.kv_layer = h_.kv_layer(layer), .attended = std::move(output.attended)});
        return output.hidden;
    }

    /// Writes K, V and query of token `i` to the cache of its sequence. Returns the slots that it attends to.
    AttendedSlots store_token(const SequenceParts& state, int32_t layer, const Projections& projected, int64_t i) {
        const int32_t kv_layer = h_.kv_layer(layer);
        const auto& store = state.cache.of(kv_layer);
        ggml_tensor* slots = slots_of(i * h_.n_layer + layer, store.shape().n_head_kv);
        const auto& buffer = store.buffer(kv_layer);
        if (projected.key != nullptr) write_rows(buffer.k(), projected.key, i, slots);
        if (projected.value != nullptr) write_rows(buffer.v(), projected.value, i, slots);
        if (ggml_tensor* queries = state.cache.queries.layer(layer); queries != nullptr) {
            ggml_tensor* row = ggml_view_1d(graph_.context(), ring_rows_, 1, static_cast<size_t>(i) * sizeof(int64_t));
            write_rows(queries, projected.query, i, row);
        }
        return {.k = buffer.k(), .v = buffer.v(), .heads = held_slots_of(state, kv_layer)};
    }

    ggml_tensor* slots_of(int64_t row, int64_t n_head_kv) const {
        return ggml_view_1d(graph_.context(), slots_, n_head_kv, static_cast<size_t>(row) * slots_->nb[1]);
    }

    /// Writes the vectors of token `i` to the rows `at` of `rows`: one head in each row for K and V, all heads in one
    /// row for the query ring.
    void write_rows(ggml_tensor* rows, ggml_tensor* values, int64_t i, ggml_tensor* at) {
        auto* context = graph_.context();
        ggml_tensor* of_token = ggml_view_2d(context, values, values->ne[0] * values->ne[1] / at->ne[0], at->ne[0],
                                             rows->ne[0] * sizeof(float), static_cast<size_t>(i) * values->nb[2]);
        graph_.add(ggml_set_rows(context, rows, of_token, at));
    }

    struct AttendedLayer {
        int32_t kv_layer;
        Attended attended;
    };

    int64_t n_;
    const EngineState& engine_;
    const Hparams& h_;
    std::vector<uint64_t> cache_ids_;
    Graph graph_;
    LayerGraph nodes_;
    ggml_tensor* tokens_ = nullptr;
    ggml_tensor* positions_ = nullptr;
    ggml_tensor* slots_ = nullptr;
    ggml_tensor* ring_rows_ = nullptr;
    std::vector<AttendedLayer> attended_;
    ggml_tensor* logits_ = nullptr;
};

namespace {

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

Decoder::Decoder(const Compute& compute, Accountant& accountant) : runner_(compute, accountant) {}
Decoder::~Decoder() = default;

Result<void> Decoder::decode(std::span<const NextToken> batch) {
    Places places;
    for (const auto& next : batch) place(next, places);
    auto graph = std::move(graph_);  // it is lost if anything fails
    if (graph == nullptr || !graph->follow(batch)) {
        graph.reset();
        graph = std::make_unique<DecodeGraph>(batch);
        if (auto allocated = runner_.allocate(graph->graph()); !allocated) return allocated;
    }
    graph->set(places);
    if (auto computed = runner_.compute(graph->graph()); !computed) return computed;
    for (size_t i = 0; i < batch.size(); i++) {
        graph->read_logits(i, batch[i].state->next.logits);
        batch[i].state->progress.n_tokens++;
    }
    if (graph->is_reusable()) graph_ = std::move(graph);
    return {};
}

}  // namespace cake
