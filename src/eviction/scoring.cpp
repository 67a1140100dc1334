#include "eviction/scoring.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <limits>
#include <new>

#include "eviction/scorer_data.hpp"

namespace cake {

namespace {

Result<std::vector<float>> call(const Scorer& scorer, const ScorerInput& input) {
    std::vector<float> scores;
    try {
        scores = scorer.score(input);
    } catch (const std::bad_alloc&) {
        throw;  // becomes an error of its own
    } catch (const std::exception& error) {
        return fail(Error::Code::internal, fmt::format("the scorer {} failed: {}", scorer.name, error.what()));
    }
    const size_t n_keys = input.scored().positions.size();
    if (scores.size() != n_keys)
        return fail(Error::Code::internal,
                    fmt::format("the scorer {} returned {} scores for {} keys", scorer.name, scores.size(), n_keys));
    // Infinity is reserved for tokens of the window.
    for (float& score : scores) score = std::min(score, std::numeric_limits<float>::max());
    return scores;
}

}  // namespace

Result<std::vector<std::vector<float>>> score_layer(GraphRunner& runner, const ManagedCache& managed,
                                                    const Scorer& scorer, int32_t layer, const LayerKeys& keys) {
    ScorerData data(managed, scorer, layer, keys);
    std::vector<std::vector<float>> scores;
    try {
        if (auto prepared = data.prepare(runner); !prepared) return std::unexpected(prepared.error());
    } catch (const std::bad_alloc&) {
        throw;  // becomes an error of its own
    } catch (const std::exception& error) {
        return fail(Error::Code::internal, fmt::format("the scorer {} failed: {}", scorer.name, error.what()));
    }
    for (int32_t head = 0; head < std::ssize(keys.slots); head++) {
        auto scored = call(scorer, data.input(head));
        if (!scored) return std::unexpected(scored.error());
        scored->resize(static_cast<size_t>(keys.slots[static_cast<size_t>(head)].length),
                       std::numeric_limits<float>::infinity());
        scores.push_back(std::move(*scored));
    }
    return scores;
}

size_t scoring_bytes(const CacheRules& rules, const Scorer& scorer, int64_t n_slots) {
    const auto& reads = scorer.reads;
    const auto& shape = rules.layout.sliced;
    size_t numbers_per_slot = 2;  // score and position
    if (rules.reads_window()) numbers_per_slot += 3 * static_cast<size_t>(rules.n_group());
    if (reads.all_queries) numbers_per_slot++;
    if (scorer.reduce) numbers_per_slot++;
    if (reads.output_norms) numbers_per_slot++;
    // Keys and values are read one head at a time, as stored and as f32.
    size_t numbers_per_slot_of_head = 0;
    if (reads.keys) numbers_per_slot_of_head += 2 * static_cast<size_t>(shape.head_dim_k);
    if (reads.values) numbers_per_slot_of_head += 2 * static_cast<size_t>(shape.head_dim_v);
    return sizeof(float) * (static_cast<size_t>(n_slots) * numbers_per_slot +
                            static_cast<size_t>(n_slots / shape.n_head_kv) * numbers_per_slot_of_head);
}

}  // namespace cake
