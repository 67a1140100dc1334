#include "eviction/scoring.hpp"

#include <algorithm>
#include <exception>
#include <format>
#include <limits>

namespace cake {

namespace {

/// Keys as float32, [head_dim_k, n].
std::vector<float> read_keys(const ggml_tensor* k, int64_t begin, int64_t n) {
    const auto n_values = static_cast<size_t>(k->ne[0] * n);
    std::vector<float> values(n_values);
    const size_t n_bytes = static_cast<size_t>(n) * k->nb[1];
    const size_t offset = static_cast<size_t>(begin) * k->nb[1];
    if (k->type == GGML_TYPE_F32) {
        ggml_backend_tensor_get(k, values.data(), offset, n_bytes);
    } else {
        std::vector<std::byte> rows(n_bytes);
        ggml_backend_tensor_get(k, rows.data(), offset, n_bytes);
        ggml_get_type_traits(k->type)->to_float(rows.data(), values.data(), static_cast<int64_t>(n_values));
    }
    return values;
}

Result<std::vector<float>> call(const Scorer& scorer, const ScorerInput& input) {
    std::vector<float> scores;
    try {
        scores = scorer.score(input);
    } catch (const std::exception& error) {
        return fail(Error::Code::internal, std::format("the scorer {} failed: {}", scorer.name, error.what()));
    }
    const size_t n_keys = input.scored().positions.size();
    if (scores.size() != n_keys)
        return fail(Error::Code::internal,
                    std::format("the scorer {} returned {} scores for {} keys", scorer.name, scores.size(), n_keys));
    // Infinity is reserved for tokens of the window.
    for (float& score : scores) score = std::min(score, std::numeric_limits<float>::max());
    return scores;
}

}  // namespace

Result<std::vector<std::vector<float>>> score_layer(const CacheRules& rules, int32_t layer, const LayerKeys& keys) {
    const auto n_head_kv = static_cast<size_t>(rules.layout.sliced.n_head_kv);
    std::vector<HeadKeys> heads(n_head_kv);
    for (size_t head = 0; head < n_head_kv; head++) {
        const auto n_keys = static_cast<size_t>(keys.n_keys(head));
        heads[head].positions = keys.positions[head].first(n_keys);
        if (rules.policy.scorer->reads.all_queries) heads[head].sum = keys.sums[head].first(n_keys);
        if (rules.policy.scorer->reads.window) {
            const auto& stats = keys.stats->heads[head];
            heads[head].mean = stats.mean;
            heads[head].variance = stats.variance;
            heads[head].last = stats.last;
        }
    }
    std::vector<std::vector<float>> scores;
    for (size_t head = 0; head < n_head_kv; head++) {
        std::vector<float> values;
        if (rules.policy.scorer->reads.keys) {
            values = read_keys(keys.buffer.k(), keys.slots[head].begin, keys.n_keys(head));
            heads[head].keys = values;
        }
        auto scored = call(*rules.policy.scorer, {.layer = layer,
                                                  .head = static_cast<int32_t>(head),
                                                  .n_group = rules.n_group(),
                                                  .heads = heads,
                                                  .window = keys.window,
                                                  .gamma = rules.options.gamma,
                                                  .pool_kernel = rules.options.pool_kernel,
                                                  .seed = rules.options.seed});
        if (!scored) return std::unexpected(scored.error());
        heads[head].keys = {};
        scored->resize(static_cast<size_t>(keys.slots[head].length), std::numeric_limits<float>::infinity());
        scores.push_back(std::move(*scored));
    }
    return scores;
}

size_t scoring_bytes(const CacheRules& rules, int64_t n_slots) {
    size_t numbers_per_slot = 2;  // score and position
    if (rules.reads_window()) numbers_per_slot += 3 * static_cast<size_t>(rules.n_group());
    if (rules.policy.scorer->reads.all_queries) numbers_per_slot++;
    size_t bytes = static_cast<size_t>(n_slots) * sizeof(float) * numbers_per_slot;
    // Keys are read one head at a time.
    if (rules.policy.scorer->reads.keys)
        bytes += static_cast<size_t>(n_slots / rules.layout.sliced.n_head_kv) * 2 * sizeof(float) *
                 static_cast<size_t>(rules.layout.sliced.head_dim_k);
    return bytes;
}

}  // namespace cake
