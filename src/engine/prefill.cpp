#include "engine/prefill.hpp"

#include <algorithm>
#include <vector>

#include "engine/chunk_queries.hpp"
#include "engine/forward_layer.hpp"
#include "engine/hidden_states.hpp"
#include "engine/query_moments.hpp"
#include "engine/recurrent_layer.hpp"
#include "engine/replay.hpp"
#include "engine/staging_layers.hpp"
#include "engine/token_keeper.hpp"
#include "engine/window_queries.hpp"
#include "eviction/decode_eviction.hpp"
#include "eviction/slicing.hpp"

namespace cake {

namespace {

constexpr size_t kNodes = 64;
constexpr size_t kNodesPerRing = 4;
constexpr int64_t kLogitsPerGraph = 64;

}  // namespace

class Prefill::Work {
    /// The step that comes next.
    struct Cursor {
        enum class Phase { begin, embed, embed_replay, layers, replay, end_of_layer, logits, done };
        Phase phase = Phase::begin;
        int32_t layer = 0;
        int64_t token = 0;  // index of the next token in the segment
        size_t replay = 0;  // index of the next step of the replay
    };

  public:
    Work(std::span<SequenceParts* const> sequences, std::span<const Token> tokens, LogitsWanted wanted,
         const SequenceParts* base)
        : sequences_(sequences),
          base_(base),
          tokens_(tokens),
          wanted_(std::move(wanted)),
          first_output_(wanted_.all ? 0 : n_segment() - 1),
          runner_(engine().compute, first().accountant),
          analysis_(engine().compute, first().accountant),
          keeper_(sequences, analysis_, n_segment(), base != nullptr) {}

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
    bool is_sliced(int32_t layer) const { return first().config.layout.is_sliced(layer); }
    bool has_state(int32_t layer) const { return hparams().has_state(layer); }
    bool is_recurrent(int32_t layer) const { return hparams().is_recurrent(layer); }
    /// The K and V that the current layer attends to.
    StagingLayer& staging() { return staging_.of(hparams(), cursor_.layer); }
    const StagingLayer& staging() const { return staging_.of(hparams(), cursor_.layer); }
    bool sums_attention() const { return chunk_queries_.is_kept(); }
    LayerGraph layer_graph(const Graph& graph) const { return {graph.context(), hparams(), engine().weights}; }

    Result<void> take_step() {
        switch (cursor_.phase) {
            case Cursor::Phase::begin:
                return begin();
            case Cursor::Phase::embed:
                return embed_chunk();
            case Cursor::Phase::embed_replay:
                return embed_replay();
            case Cursor::Phase::layers:
                return run_chunk();
            case Cursor::Phase::replay:
                return run_replay();
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
        const int64_t n_replay = replay_ ? replay_->n_tokens() : 0;
        const int64_t n_all = n_segment() + n_replay;  // tokens that are computed in a layer
        int64_t n_done = 0;                            // tokens that the current layer has computed
        switch (cursor_.phase) {
            case Cursor::Phase::begin:
            case Cursor::Phase::embed:
            case Cursor::Phase::embed_replay:
                return 0;
            case Cursor::Phase::layers:
                n_done = end_of_chunk();
                break;
            case Cursor::Phase::replay:
                n_done = n_segment() +
                         n_replay * static_cast<int64_t>(cursor_.replay + 1) / static_cast<int64_t>(replay_->n_steps());
                break;
            case Cursor::Phase::end_of_layer:
                n_done = n_all;
                break;
            case Cursor::Phase::logits:
            case Cursor::Phase::done:
                return n_segment();
        }
        // Layers without K and V of their own take little time.
        const int32_t n_layer = hparams().n_layer_kv_from_start;
        const double layers = cursor_.layer + static_cast<double>(n_done) / static_cast<double>(n_all);
        return static_cast<int64_t>(std::min(layers / n_layer, 1.0) * static_cast<double>(n_segment()));
    }

    /// A chunk has fewer tokens if each of them attends to many tokens, so that a step takes about the same time at any
    /// depth.
    int64_t end_of_chunk() const {
        constexpr int64_t kManyTokens = 8192;
        constexpr int64_t kMinTokens = 16;
        const int64_t n_batch = engine().options.n_batch;
        if (is_recurrent(cursor_.layer)) return std::min(cursor_.token + n_batch, n_segment());
        const int64_t n_seen = staging().segment_begin() + cursor_.token + n_batch;
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
        const auto& h = hparams();
        if (auto planned = plan_replay(); !planned) return planned;
        const int64_t n_rows =
            max_held(base_ != nullptr ? *base_ : first()) + n_segment() + (replay_ ? replay_->n_rows() : 0);
        auto staging = StagingLayers::allocate(first(), n_rows, n_segment());
        if (!staging) return std::unexpected(staging.error());
        staging_ = std::move(*staging);
        auto& report = first().report;
        report.layer_bytes = std::max(report.layer_bytes, staging_.size_bytes());

        auto hidden = HiddenStates::allocate(accountant, engine().compute.memory(), h.n_embd, n_segment(),
                                             first().max_hidden_f32_bytes);
        if (!hidden) return std::unexpected(hidden.error());
        hidden_ = std::move(*hidden);

        const auto sums = [](const SequenceParts* sequence) { return sequence->config.sums_attention(); };
        if (std::ranges::none_of(sequences_, sums)) return {};
        auto queries = ChunkQueries::allocate(first(), std::min<int64_t>(engine().options.n_batch, n_segment()));
        if (!queries) return std::unexpected(queries.error());
        chunk_queries_ = std::move(*queries);
        return {};
    }

    /// Prepares a replay if the policy of a sequence that drops tokens reads it.
    Result<void> plan_replay() {
        ReplayPass::Wanted wanted;
        for (size_t i = 0; i < sequences_.size(); i++) {
            if (!keeper_.evicts(i)) continue;
            const auto& rules = sequences_[i]->config;
            wanted.attention = wanted.attention || rules.replay() == Replay::attention;
            wanted.output = wanted.output || rules.replay() == Replay::output;
            if (rules.reads_query_moments()) moments_ = std::make_unique<LayerMoments>(hparams());
        }
        if (!wanted.any()) return {};
        auto pass = ReplayPass::make(first(), tokens_, first().progress.n_tokens + n_segment(), wanted);
        if (!pass) return std::unexpected(pass.error());
        replay_ = std::make_unique<ReplayPass>(std::move(*pass));
        return {};
    }

    Result<void> embed_replay() {
        auto embedded = replay_->embed(runner_, cursor_.replay++);
        if (cursor_.replay == replay_->n_steps()) begin_layer(0);
        return embedded;
    }

    Result<void> run_replay() {
        if (cursor_.replay == 0) {
            if (auto begun = replay_->begin_layer(analysis_, staging(), cursor_.layer); !begun) return begun;
        }
        auto done = replay_->run(runner_, analysis_, staging(), cursor_.replay++);
        if (cursor_.replay == replay_->n_steps()) cursor_.phase = Cursor::Phase::end_of_layer;
        return done;
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
            window_queries_ = {first(), n_segment()};
            for (SequenceParts* sequence : sequences_) sequence->cache.queries.push(window_queries_.n_window());
            if (replay_)
                cursor_ = {.phase = Cursor::Phase::embed_replay};
            else
                begin_layer(0);
        }
        return runner_.compute(graph);
    }

    void begin_layer(int32_t layer) {
        cursor_ = {
            .phase = Cursor::Phase::layers, .layer = layer, .token = hparams().has_kv(layer) ? 0 : first_output_};
        const auto position = static_cast<int32_t>(first().progress.n_tokens);
        hidden_.move_to(layer);
        if (moments_) moments_->begin_layer();
        if (has_state(layer) && base_ != nullptr) first().cache.recurrent.copy(base_->cache.recurrent, layer);
        if (is_recurrent(layer) || !hparams().has_kv(layer)) return;  // what it reads is there already
        if (base_ != nullptr) {
            staging().copy(base_->cache.of(layer), layer, position);
        } else {
            staging().take(first().cache.of(layer), layer, position);
        }
    }

    /// Computes the layer for a chunk of the segment. From the last layer with K and V of its own on, only tokens whose
    /// logits are needed go through attention and feed-forward.
    Result<void> run_chunk() {
        const int64_t begin = cursor_.token;
        const int64_t end = end_of_chunk();
        const bool last = cursor_.layer >= hparams().n_layer_kv_from_start - 1;
        const int64_t output_begin = last ? std::clamp(first_output_, begin, end) : begin;
        auto done = is_recurrent(cursor_.layer) ? run_recurrent(begin, end, output_begin)
                                                : run_attention(begin, end, output_begin);
        if (!done) return done;
        cursor_.token = end;
        if (end == n_segment()) {
            const bool replays = replay_ && replay_->reaches(cursor_.layer);
            cursor_.phase = replays ? Cursor::Phase::replay : Cursor::Phase::end_of_layer;
        }
        return {};
    }

    Result<void> run_recurrent(int64_t begin, int64_t end, int64_t output_begin) {
        return run_recurrent_layer(runner_, engine(), cursor_.layer, hidden_, begin, end, output_begin,
                                   first().cache.recurrent.layer(cursor_.layer));
    }

    Result<void> run_attention(int64_t begin, int64_t end, int64_t output_begin) {
        const int32_t layer = cursor_.layer;
        Graph graph(LayerGraph::max_nodes(hparams()) + kNodesPerRing * sequences_.size() + LayerMoments::kNodes);
        ggml_tensor* positions = graph.input(GGML_TYPE_I32, end - begin);
        ggml_tensor* slots = graph.input(GGML_TYPE_I64, end - begin);
        ggml_tensor* ids = hparams().n_embd_per_layer > 0 ? graph.input(GGML_TYPE_I32, end - begin) : nullptr;
        ggml_tensor* ring_rows = nullptr;
        const auto sink = [&](const Projections& projected) -> std::vector<AttendedSlots> {
            staging().put(graph, projected, slots);
            ring_rows = window_queries_.store(graph, sequences_, layer, projected.query, begin);
            if (sums_attention() && is_sliced(layer)) chunk_queries_.store(graph, layer, projected.query);
            if (moments_ && is_sliced(layer))
                moments_->add_nodes(graph, projected.unrotated_query, first().progress.n_tokens + begin);
            return {{.k = staging().buffer().k(), .v = staging().buffer().v(), .heads = staging().slots_to(end)}};
        };
        ggml_tensor* state = has_state(layer) ? first().cache.recurrent.layer(layer) : nullptr;
        const LayerInput input{.hidden = hidden_.read(graph, begin, end),
                               .positions = positions,
                               .tokens = ids,
                               .states = std::span(&state, state != nullptr ? 1 : 0)};
        const auto output =
            forward_layer(graph, engine().attention, layer_graph(graph), layer, input, end - output_begin, sink);
        if (output.hidden != nullptr) hidden_.write(graph, output.hidden, output_begin, end);
        if (auto allocated = runner_.allocate(graph); !allocated) return allocated;
        set_numbers<int32_t>(positions, first().progress.n_tokens + begin);
        set_numbers<int64_t>(slots, staging().segment_begin() + begin);
        if (ids != nullptr)
            set_input(ids, tokens_.subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin)));
        if (ring_rows != nullptr) window_queries_.set_rows(ring_rows, end);
        set_masks(output.attended);
        if (auto computed = runner_.compute(graph); !computed) return computed;
        if (sums_attention() && is_sliced(layer)) {
            auto summed = chunk_queries_.sum(analysis_, first().config, layer, staging(), begin, end);
            if (!summed) return summed;
        }
        if (moments_ && is_sliced(layer)) moments_->take();
        return {};
    }

    /// Ends a layer: the caches get the tokens that it keeps, from the staging layer, or its state.
    Result<void> end_layer() {
        const int32_t layer = cursor_.layer;
        if (has_state(layer)) {
            for (SequenceParts* sequence : sequences_.subspan(1))
                sequence->cache.recurrent.copy(first().cache.recurrent, layer);
        }
        if (!is_recurrent(layer) && hparams().has_kv(layer)) {
            auto kept = keeper_.keep(layer, staging(), moments_.get(), replay_.get());
            if (!kept) return kept;
        }
        if (layer + 1 < hparams().n_layer) {
            begin_layer(layer + 1);
        } else {
            cursor_ = {.phase = Cursor::Phase::logits, .layer = layer, .token = first_output_};
        }
        return {};
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
    WindowQueries window_queries_;
    GraphRunner runner_;
    GraphRunner analysis_;
    TokenKeeper keeper_;
    StagingLayers staging_;
    HiddenStates hidden_;
    ChunkQueries chunk_queries_;             // only if a scorer reads cumulative attention
    std::unique_ptr<LayerMoments> moments_;  // only if a scorer reads the moments of the queries
    std::unique_ptr<ReplayPass> replay_;     // only if a scorer reads a replay
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
