#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <set>

#include "golden/golden_layer.hpp"
#include "method/attention_stats.hpp"
#include "method/preference.hpp"
#include "method/scorer.hpp"
#include "method/selection.hpp"

namespace cake::test {

namespace {

class CakeCase {
  public:
    explicit CakeCase(const GoldenFile& golden) : file(golden) {}

    AttentionStats analyse(int32_t layer) const {
        const auto q = file.tensor<float>(fmt::format("q_window.{}", layer), {head_dim, window, n_head});
        const auto k = file.tensor<float>(fmt::format("k.{}", layer), {head_dim, n_tokens, n_head_kv});
        const auto q_size = static_cast<size_t>(head_dim * window);
        const auto k_size = static_cast<size_t>(head_dim * n_tokens);
        const std::vector<int64_t> keys_by_head(static_cast<size_t>(n_head_kv), n_keys);
        AttentionStats stats(n_head, keys_by_head);
        for (int32_t head = 0; head < n_head; head++) {
            const auto head_kv = static_cast<size_t>(head / (n_head / n_head_kv));
            const auto attention = window_attention(q.subspan(static_cast<size_t>(head) * q_size, q_size),
                                                    k.subspan(head_kv * k_size, k_size), head_dim, window);
            add_head(stats, head, attention, window, window - 1);
        }
        return stats;
    }

    /// Scores of all keys, [n_keys, n_head_kv].
    std::vector<float> indicator(const AttentionStats& stats) const {
        const std::vector<int32_t> positions(static_cast<size_t>(n_keys));
        std::vector<HeadKeys> heads;
        for (const auto& head : stats.heads)
            heads.push_back({.positions = positions, .mean = head.mean, .variance = head.variance});
        std::vector<float> scores;
        for (int32_t head = 0; head < n_head_kv; head++) {
            scores.append_range(find_scorer("cake")->score(
                {.head = head, .n_group = stats.n_group, .heads = heads, .window = window, .gamma = gamma}));
        }
        return scores;
    }

    std::span<const float> per_layer(const char* name) const { return file.tensor<float>(name, {n_layer}); }

    const GoldenFile& file;
    const int32_t window = file.integer("window");
    const int32_t n_layer = file.integer("n_layer");
    const int32_t n_head = file.integer("n_head");
    const int32_t n_head_kv = file.integer("n_head_kv");
    const int32_t head_dim = file.integer("head_dim");
    const int32_t n_tokens = file.integer("n_tokens");
    const int32_t n_keys = n_tokens - window;
    const float gamma = file.real("gamma");
    const double tau1 = file.real("tau1");
    const double tau2 = file.real("tau2");
};

void check_preferences(const CakeCase& c) {
    const auto dispersion = c.per_layer("dispersion");
    const auto shift = c.per_layer("shift");
    const auto preferred = c.per_layer("preference");
    ASSERT_GT(c.n_layer, 0);
    for (int32_t layer = 0; layer < c.n_layer; layer++) {
        SCOPED_TRACE(testing::Message() << "layer " << layer);
        const auto stats = c.analyse(layer);
        const auto l = static_cast<size_t>(layer);
        EXPECT_NEAR(stats.dispersion, dispersion[l], 1e-4 * std::abs(dispersion[l]));
        EXPECT_NEAR(stats.shift, shift[l], 1e-4 * std::abs(shift[l]));
        EXPECT_NEAR(preference(stats.dispersion, stats.shift, c.tau1, c.tau2), preferred[l],
                    1e-3 * std::abs(preferred[l]));
    }
}

void check_indicators(const CakeCase& c) {
    for (int32_t layer = 0; layer < c.n_layer; layer++) {
        SCOPED_TRACE(testing::Message() << "layer " << layer);
        const auto expected = c.file.tensor<float>(fmt::format("indicator.{}", layer), {c.n_keys, c.n_head_kv});
        const auto actual = c.indicator(c.analyse(layer));
        ASSERT_EQ(actual.size(), expected.size());
        const float tolerance = 1e-5F * std::ranges::max(expected);
        for (size_t i = 0; i < actual.size(); i++) ASSERT_NEAR(actual[i], expected[i], tolerance) << "at " << i;
    }
}

void check_stages(const CakeCase& c) {
    const auto sizes =
        c.file.tensor<int32_t>("stage_sizes", {c.n_layer, c.n_layer});  // [layer, stage], c.window included
    for (int32_t layer = 0; layer < c.n_layer; layer++) {
        const auto name = fmt::format("kept.{}", layer);
        const auto expected = c.file.tensor<int32_t>(name, {-1, c.n_head_kv});
        const auto theirs = c.file.tensor<float>(fmt::format("indicator.{}", layer), {c.n_keys, c.n_head_kv});
        const auto n_kept = expected.size() / static_cast<size_t>(c.n_head_kv);
        const auto scores = c.indicator(c.analyse(layer));
        for (int32_t head = 0; head < c.n_head_kv; head++) {
            SCOPED_TRACE(testing::Message() << "layer " << layer << " head " << head);
            const auto base = static_cast<size_t>(head) * static_cast<size_t>(c.n_keys);
            std::vector<int32_t> kept(static_cast<size_t>(c.n_keys));
            for (int32_t i = 0; i < c.n_keys; i++) kept[static_cast<size_t>(i)] = i;
            for (int32_t stage = layer; stage < c.n_layer; stage++) {
                const int32_t size = sizes[static_cast<size_t>(stage * c.n_layer + layer)];
                std::vector<float> kept_scores;
                for (const int32_t index : kept) kept_scores.push_back(scores[base + static_cast<size_t>(index)]);
                std::vector<int32_t> still;
                for (const int32_t i : select_top(kept_scores, size - c.window))
                    still.push_back(kept[static_cast<size_t>(i)]);
                kept = std::move(still);
            }
            std::set<int32_t> ours(kept.begin(), kept.end());
            for (int32_t i = c.n_keys; i < c.n_tokens; i++) ours.insert(i);
            const auto of_head = expected.subspan(static_cast<size_t>(head) * n_kept, n_kept);
            const std::set<int32_t> authors(of_head.begin(), of_head.end());
            ASSERT_EQ(authors.size(), n_kept) << "a token is listed twice";
            ASSERT_EQ(ours.size(), authors.size());

            // The sets may differ only in tokens that have the same score in the authors' code.
            std::optional<float> tie;
            std::vector<int32_t> differing;
            std::ranges::set_symmetric_difference(ours, authors, std::back_inserter(differing));
            for (const int32_t index : differing) {
                ASSERT_TRUE(index >= 0 && index < c.n_keys) << "token " << index;
                const float score = theirs[base + static_cast<size_t>(index)];
                EXPECT_EQ(score, tie.value_or(score)) << "token " << index;
                tie = score;
            }
        }
    }
}

}  // namespace

void check_cake(const GoldenFile& file) {
    const CakeCase c(file);
    check_preferences(c);
    check_indicators(c);
    check_stages(c);
}

}  // namespace cake::test
