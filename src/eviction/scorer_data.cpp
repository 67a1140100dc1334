#include "eviction/scorer_data.hpp"

#include <algorithm>
#include <cmath>

#include "eviction/analyzer.hpp"
#include "eviction/output_norms.hpp"

namespace cake {

namespace {

/// The rows of a KV head as float32, [dim, length]. They may be a part of longer rows.
std::vector<float> read_rows(const ggml_tensor* rows, const HeadSlots& slots) {
    const auto n = static_cast<size_t>(slots.length);
    const auto n_values = static_cast<size_t>(rows->ne[0]) * n;
    const size_t row_bytes = ggml_row_size(rows->type, rows->ne[0]);
    const size_t offset = static_cast<size_t>(slots.begin) * rows->nb[1];
    std::vector<float> values(n_values);
    if (rows->type == GGML_TYPE_F32) {
        ggml_backend_tensor_get_2d(rows, values.data(), offset, row_bytes, n, rows->nb[1], row_bytes);
    } else {
        std::vector<std::byte> stored(n * row_bytes);
        ggml_backend_tensor_get_2d(rows, stored.data(), offset, row_bytes, n, rows->nb[1], row_bytes);
        ggml_get_type_traits(rows->type)->to_float(stored.data(), values.data(), static_cast<int64_t>(n_values));
    }
    return values;
}

}  // namespace

ScorerData::ScorerData(const ManagedCache& managed, const Scorer& scorer, int32_t layer, const LayerKeys& keys)
    : managed_(managed), scorer_(scorer), layer_(layer), keys_(keys), heads_(keys.slots.size()) {
    for (size_t head = 0; head < heads_.size(); head++) {
        const auto n_keys = static_cast<size_t>(keys.n_keys(head));
        heads_[head].positions = keys.positions[head].first(n_keys);
        if (reads().all_queries) heads_[head].sum = keys.sums[head].first(n_keys);
        if (reads().window) {
            const auto& stats = keys.stats->heads[head];
            heads_[head].mean = stats.mean;
            heads_[head].variance = stats.variance;
            heads_[head].last = stats.last;
        }
    }
}

ScorerInput ScorerData::blank(int32_t head) const {
    const auto& plan = managed_.cache.plan;
    const auto budget = static_cast<int32_t>(plan.tokens_per_layer - plan.slack);
    const auto& allocator = rules().allocator();
    return {.layer = layer_,
            .head = head,
            .n_group = rules().n_group(),
            .heads = {},
            .window = keys_.window,
            .budget = budget,
            .floor = allocator.is_per_head() ? allocator.heads.floor_of(budget, rules().options.window) : 0,
            .gamma = rules().options.gamma,
            .pool_kernel = rules().options.pool_kernel,
            .seed = rules().options.seed};
}

Result<void> ScorerData::prepare(GraphRunner& runner) {
    if (scorer_.reduce) {
        if (auto reduced = reduce(runner); !reduced) return reduced;
        for (size_t head = 0; head < heads_.size(); head++) heads_[head].reduced = reduced_[head];
    }
    if (!reads().output_norms) return {};
    if (keys_.output_norms == nullptr) {
        auto norms = output_norms(runner, rules(), layer_, keys_.buffer.v(), keys_.outside(), OutputNorm::l1_of_group);
        if (!norms) return std::unexpected(norms.error());
        output_norms_ = std::move(*norms);
    }
    const auto& norms = keys_.output_norms != nullptr ? *keys_.output_norms : output_norms_;
    for (size_t head = 0; head < heads_.size(); head++) heads_[head].output_norms = norms[head];
    return {};
}

Result<void> ScorerData::reduce(GraphRunner& runner) {
    const int64_t n_queries = reads().n_reduced > 0 ? reads().n_reduced : rules().options.window;
    const AttentionInput attention{.queries = managed_.cache.queries.layer(layer_),
                                   .window = newest_queries(managed_.cache.queries, n_queries),
                                   .k = keys_.buffer.k(),
                                   .heads = keys_.slots};
    for (const auto& head : keys_.slots) reduced_.emplace_back(static_cast<size_t>(head.length), 0.0F);
    std::vector<float> values;
    return for_each_attention(runner, rules().traits_of(layer_), attention,
                              [&](int32_t query_head, std::span<const float> weights) {
                                  const int32_t head = query_head / rules().n_group();
                                  const auto i = static_cast<size_t>(head);
                                  if (reads().values && query_head % rules().n_group() == 0)
                                      values = read_rows(keys_.buffer.v(), keys_.slots[i]);
                                  scorer_.reduce(blank(head),
                                                 {.weights = weights,
                                                  .values = values,
                                                  .n_queries = static_cast<int32_t>(attention.window.size()),
                                                  .n_keys = keys_.n_keys(i)},
                                                 reduced_[i]);
                              });
}

/// The queries of the group in the order of the text, [head_dim_k, n_queries, n_group].
std::vector<float> ScorerData::read_queries(int32_t head) const {
    const auto& ring = managed_.cache.queries;
    const ggml_tensor* rows = ring.layer(layer_);
    const auto dim = static_cast<size_t>(keys_.buffer.k()->ne[0]);
    auto window = newest_queries(ring, rules().options.window);
    std::ranges::sort(window, std::greater{}, &WindowQuery::unseen);
    std::vector<float> values(dim * window.size() * static_cast<size_t>(rules().n_group()));
    // Scorers divide logits by √head_dim_k; a model may scale them otherwise.
    const float factor = rules().traits_of(layer_).scale * std::sqrt(static_cast<float>(dim));
    float* to = values.data();
    for (int32_t i = 0; i < rules().n_group(); i++) {
        const auto column = static_cast<size_t>(head * rules().n_group() + i) * dim * sizeof(float);
        for (const auto& query : window) {
            ggml_backend_tensor_get(rows, to, static_cast<size_t>(query.row) * rows->nb[1] + column,
                                    dim * sizeof(float));
            for (size_t d = 0; d < dim; d++) to[d] *= factor;
            to += dim;
        }
    }
    return values;
}

ScorerInput ScorerData::input(int32_t head) {
    const auto i = static_cast<size_t>(head);
    for (auto& others : heads_) others.keys = others.values = others.queries = {};
    if (reads().keys) heads_[i].keys = head_keys_ = read_rows(keys_.buffer.k(), keys_.slots[i]);
    if (reads().values) heads_[i].values = head_values_ = read_rows(keys_.buffer.v(), keys_.slots[i]);
    if (reads().replay == Replay::attention) heads_[i].replay = keys_.replay[i].first(heads_[i].positions.size());
    if (reads().replay == Replay::output) heads_[i].replay = keys_.replay_output[i].first(heads_[i].positions.size());
    if (reads().query_moments) {
        heads_[i].query_mean = keys_.expected->means[i];
        heads_[i].query_covariance = keys_.expected->covariances[i];
    }
    if (reads().queries) heads_[i].queries = head_queries_ = read_queries(head);
    auto result = blank(head);
    result.heads = heads_;
    return result;
}

}  // namespace cake
