#include "engine/decode.hpp"

#include <algorithm>
#include <format>
#include <optional>

#include "engine/attention.hpp"
#include "engine/eviction.hpp"
#include "engine/graph.hpp"
#include "model/layer_graph.hpp"

namespace cake {

namespace {

class Decode {
  public:
    explicit Decode(SequenceState& state)
        : state_(state),
          h_(state.hparams()),
          runner_(*state.decode_runner),
          graph_(LayerGraph::most_nodes(h_) * (static_cast<size_t>(h_.n_layer) + 2)),
          nodes_(graph_.context(), h_, state.engine->weights) {}

    Result<void> run(Token token) {
        const auto position = static_cast<int32_t>(state_.n_tokens);
        place(position);
        build();
        if (auto allocated = runner_.allocate(graph_); !allocated) return allocated;
        set_input<int32_t>(token_, {&token, 1});
        set_input<int32_t>(position_, {&position, 1});
        set_input<int64_t>(slots_, slot_numbers_);
        if (ring_row_ != nullptr) set_input<int64_t>(ring_row_, {&ring_number_, 1});
        if (auto computed = runner_.compute(graph_); !computed) return computed;
        state_.logits.resize(static_cast<size_t>(h_.n_vocab));
        ggml_backend_tensor_get(logits_, state_.logits.data(), 0, ggml_nbytes(logits_));
        state_.n_tokens++;
        return {};
    }

  private:
    /// Takes the next slot of every layer and KV head, and the next row of the ring.
    void place(int32_t position) {
        for (const auto& place : state_.places) {
            auto& store = state_.store_of(place);
            for (const Run& run : store.runs(place.index)) slot_numbers_.push_back(run.begin + run.length);
            store.push(place.index, position);
            if (!place.windowed && state_.sums_attention()) state_.n_unread[static_cast<size_t>(place.index)]++;
        }
        ring_number_ = state_.ring.next;
        state_.ring.push(1);
    }

    void build() {
        token_ = graph_.input(GGML_TYPE_I32, 1);
        position_ = graph_.input(GGML_TYPE_I32, 1);
        slots_ = graph_.input(GGML_TYPE_I64, h_.n_head_kv, h_.n_layer);
        if (state_.reads_queries()) ring_row_ = graph_.input(GGML_TYPE_I64, 1);
        ggml_tensor* hidden = nodes_.embed(token_, position_);
        for (int32_t layer = 0; layer < h_.n_layer; layer++) hidden = build_layer(layer, hidden);
        logits_ = graph_.output(nodes_.logits(hidden));
    }

    ggml_tensor* build_layer(int32_t layer, ggml_tensor* hidden) {
        auto* context = graph_.context();
        const auto place = state_.places[static_cast<size_t>(layer)];
        const auto& store = state_.store_of(place);
        const auto& buffer = store.buffer();
        ggml_tensor* input = nodes_.attention_input(layer, hidden);
        const auto [query, key, value] = nodes_.project(layer, input, position_);
        ggml_tensor* slots = ggml_view_1d(context, slots_, h_.n_head_kv, static_cast<size_t>(layer) * slots_->nb[1]);
        write_slots(buffer.k(), key, slots);
        write_slots(buffer.v(), value, slots);
        if (ring_row_ != nullptr && !place.windowed) {
            ggml_tensor* flat = ggml_reshape_2d(context, query, query->ne[0] * query->ne[1], 1);
            graph_.add(ggml_set_rows(context, state_.ring.layers[static_cast<size_t>(place.index)], flat, ring_row_));
        }
        const auto attended =
            attend(graph_, state_.engine->attention, nodes_, layer, query, buffer, held_slots(store, place.index));
        return nodes_.finish(layer, hidden, attended.node);
    }

    void write_slots(ggml_tensor* rows, ggml_tensor* values, ggml_tensor* slots) {
        ggml_tensor* flat = ggml_reshape_2d(graph_.context(), values, values->ne[0], h_.n_head_kv);
        graph_.add(ggml_set_rows(graph_.context(), rows, flat, slots));
    }

    SequenceState& state_;
    const Hparams& h_;
    GraphRunner& runner_;
    Graph graph_;
    LayerGraph nodes_;
    std::vector<int64_t> slot_numbers_;  // [n_head_kv, n_layer]
    int64_t ring_number_ = 0;
    ggml_tensor* token_ = nullptr;
    ggml_tensor* position_ = nullptr;
    ggml_tensor* slots_ = nullptr;
    ggml_tensor* ring_row_ = nullptr;
    ggml_tensor* logits_ = nullptr;
};

}  // namespace

Result<void> check_room(const SequenceState& state, int64_t n_more) {
    const int64_t most = state.hparams().most_positions();
    if (most > 0 && state.n_tokens + n_more > most) {
        return fail(std::format("the text reaches {} tokens, and this model has learned {} positions and no more",
                                state.n_tokens + n_more, most));
    }
    if (state.evicts() || state.n_tokens + n_more <= state.tokens_per_layer) return {};
    return fail(std::format("the context of {} tokens is full: a larger one (-c), or a policy that evicts, goes on",
                            state.tokens_per_layer));
}

Result<void> decode(SequenceState& state, Token token) {
    if (!state.decode_runner)
        state.decode_runner = std::make_unique<GraphRunner>(state.engine->compute, state.accountant);
    std::optional<GraphRunner> analysis;  // most tokens need none
    for (int32_t layer = 0; layer < state.shape.n_layer; layer++) {
        const auto is_full = [](const Run& run) { return run.length == run.capacity; };
        const bool full = std::ranges::any_of(state.store.runs(layer), is_full);
        const bool forgets =
            state.sums_attention() && state.n_unread[static_cast<size_t>(layer)] == state.options.window;
        if (!full && !forgets) continue;
        if (!analysis) analysis.emplace(state.engine->compute, state.accountant);
        auto done = full ? evict_decoded(*analysis, state, layer) : add_decoded_attention(*analysis, state, layer);
        if (!done) return done;
    }
    for (int32_t layer = 0; layer < state.windows_shape.n_layer; layer++) slide_window(state, layer);
    return Decode(state).run(token);
}

}  // namespace cake
