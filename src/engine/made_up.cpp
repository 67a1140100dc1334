#include "engine/made_up.hpp"

#include <algorithm>
#include <map>
#include <random>

#include "eviction/slicing.hpp"

namespace cake {

namespace {

constexpr int64_t kRows = 1024;  // number of distinct random rows, which are repeated

std::vector<float> draw(size_t n, std::mt19937& random) {
    std::normal_distribution<float> normal;
    std::vector<float> values(n);
    for (float& x : values) x = normal(random);
    return values;
}

/// Fills the first `n` rows with random values.
void fill(ggml_tensor* rows, int64_t n, std::mt19937& random) {
    std::vector<std::byte> bytes(static_cast<size_t>(kRows) * rows->nb[1]);
    ggml_quantize_chunk(rows->type, draw(static_cast<size_t>(kRows * rows->ne[0]), random).data(), bytes.data(), 0,
                        kRows, rows->ne[0], nullptr);
    for (int64_t row = 0; row < n; row += kRows) {
        ggml_backend_tensor_set(rows, bytes.data(), static_cast<size_t>(row) * rows->nb[1],
                                static_cast<size_t>(std::min(kRows, n - row)) * rows->nb[1]);
    }
}

/// Fills every run with `length` tokens, whose positions are spread evenly over the last `n_spread` of `n_tokens`.
void fill(KvStore& store, int32_t length, int64_t n_spread, int64_t n_tokens, std::mt19937& random) {
    std::map<const KvBuffer*, int64_t> n_rows;
    for (const int32_t layer : store.layers()) {
        for (int32_t head = 0; head < store.shape().n_head_kv; head++) {
            int64_t& n = n_rows[&store.buffer(layer)];
            n = std::max(n, store.extend(layer, head, length) + length);
            int64_t i = 0;
            for (int32_t& position : store.positions(layer, head))
                position = static_cast<int32_t>(n_tokens - n_spread + n_spread * i++ / length);
            std::ranges::fill(store.scores(layer, head), 0.0F);
            std::ranges::fill(store.sums(layer, head), 0.0F);
        }
    }
    for (const auto& [buffer, n] : n_rows) {
        fill(buffer->k(), n, random);
        if (!buffer->v_in_k()) fill(buffer->v(), n, random);
    }
}

}  // namespace

void make_up(SequenceParts& state, int64_t n_tokens) {
    const int64_t n_runs =
        static_cast<int64_t>(state.config.layout.sliced.n_layer) * state.config.layout.sliced.n_head_kv;
    const auto length = static_cast<int32_t>(
        state.config.evicts() ? std::min(n_tokens, state.cache.plan.tokens_per_layer - state.cache.plan.slack)
                              : n_tokens);
    std::mt19937 random(1);
    state.cache.sliced.arrange(std::vector<int32_t>(static_cast<size_t>(n_runs), length));
    fill(state.cache.sliced, length, n_tokens, n_tokens, random);
    if (state.config.layout.sliding.n_layer > 0) {
        const int64_t n_swa = std::min<int64_t>(n_tokens, state.config.hparams().n_swa);
        fill(state.cache.sliding, static_cast<int32_t>(n_swa), n_swa, n_tokens, random);
    }
    for (const int32_t number : state.cache.sliced.layers()) {
        ggml_tensor* layer = state.cache.queries.layer(number);
        if (layer == nullptr) continue;
        const auto queries = draw(static_cast<size_t>(ggml_nelements(layer)), random);
        ggml_backend_tensor_set(layer, queries.data(), 0, queries.size() * sizeof(float));
    }
    state.cache.queries.push(std::min(n_tokens, state.cache.queries.n_rows()));
    state.next.logits.assign(static_cast<size_t>(state.config.hparams().n_vocab), 0.0F);
    state.progress.n_tokens = n_tokens;
    make_room_for_decoding(state.managed());
}

}  // namespace cake
