#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "method/selection.hpp"

namespace cake {
namespace {

using Kept = std::vector<std::vector<int32_t>>;
using Scores = std::vector<std::vector<float>>;

struct Case {
    size_t n_layer = 1;
    size_t n_head_kv = 1;
    int32_t window = 1;
    int32_t floor = 0;
    int64_t total = 0;  // tokens of all heads and layers outside the windows
    Scores scores;      // [n_layer * n_head_kv]
};

/// A random case, in every second one with many equal scores, and with scores that are not numbers, pinned or infinite.
Case random_case(uint64_t seed) {
    std::mt19937_64 random(seed);
    Case c{
        .n_layer = 1 + random() % 12, .n_head_kv = 1 + random() % 4, .window = static_cast<int32_t>(1 + random() % 9)};
    const size_t n_keys = random() % 60;
    const bool coarse = random() % 2 == 0;
    for (size_t head = 0; head < c.n_layer * c.n_head_kv; head++) {
        auto& of_head = c.scores.emplace_back();
        const double scale = std::pow(10, std::uniform_real_distribution(-2.0, 2.0)(random));
        for (size_t i = 0; i < n_keys; i++) {
            const double x = std::uniform_real_distribution(-scale, scale)(random);
            of_head.push_back(static_cast<float>(coarse ? std::floor(x) : x));
            if (random() % 40 == 0) of_head.back() = std::numeric_limits<float>::quiet_NaN();
            if (random() % 40 == 0) of_head.back() = std::numeric_limits<float>::max();
        }
        of_head.resize(n_keys + static_cast<size_t>(c.window), std::numeric_limits<float>::infinity());
    }
    const auto n_all = static_cast<int64_t>(n_keys * c.scores.size());
    c.total = n_all > 0 ? static_cast<int64_t>(random() % static_cast<uint64_t>(n_all + n_all / 4 + 1)) : 0;
    // The floors of all heads fit into the total.
    const int64_t most = c.total / std::ssize(c.scores);
    c.floor = c.window + static_cast<int32_t>(random() % 3 == 0 ? 0 : random() % static_cast<uint64_t>(most + 1));
    return c;
}

/// What the heads up to `end` keep if they held the tokens `held` before.
Kept select(const Case& c, const Kept& held, size_t end) {
    Scores scores;
    for (size_t head = 0; head < end; head++) {
        auto& of_head = scores.emplace_back();
        for (const int32_t i : held[head]) of_head.push_back(c.scores[head][static_cast<size_t>(i)]);
    }
    const std::vector<std::span<const float>> views(scores.begin(), scores.end());
    const int64_t total = c.total + int64_t{c.window} * static_cast<int64_t>(end);
    const auto n_kept = select_model(views, total, c.floor);
    Kept kept;
    for (size_t head = 0; head < end; head++) {
        kept.push_back(select_top(views[head], n_kept[head]));
        for (int32_t& i : kept.back()) i = held[head][static_cast<size_t>(i)];
    }
    return kept;
}

Kept all_of(const Case& c) {
    Kept all;
    for (const auto& head : c.scores) {
        all.emplace_back(head.size());
        std::iota(all.back().begin(), all.back().end(), 0);
    }
    return all;
}

int64_t count(const Kept& kept) {
    int64_t n = 0;
    for (const auto& head : kept) n += std::ssize(head);
    return n;
}

TEST(ModelTopKProperty, TheCascadeKeepsWhatOneSelectionOverAllLayersKeeps) {
    constexpr uint64_t kCases = 10'000;
    for (uint64_t seed = 1; seed <= kCases; seed++) {
        SCOPED_TRACE(testing::Message() << "seed " << seed);
        const Case c = random_case(seed);
        const auto all = all_of(c);
        Kept held;
        for (size_t layer = 0; layer < c.n_layer; layer++) {
            const size_t end = (layer + 1) * c.n_head_kv;
            for (size_t head = layer * c.n_head_kv; head < end; head++) held.push_back(all[head]);
            held = select(c, held, end);
            ASSERT_LE(count(held), c.total + int64_t{c.window} * static_cast<int64_t>(end)) << "layer " << layer;
        }
        ASSERT_EQ(held, select(c, all, c.scores.size()));
        for (size_t head = 0; head < held.size(); head++) {
            const auto n_tokens = std::ssize(c.scores[head]);
            ASSERT_GE(std::ssize(held[head]), std::min<int64_t>(c.floor, n_tokens));
            for (int64_t i = n_tokens - c.window; i < n_tokens; i++)
                ASSERT_TRUE(std::ranges::contains(held[head], i)) << "the window stays";
        }
    }
}

TEST(ModelTopKProperty, NoTokenThatWasDroppedIsBetterThanOneThatStays) {
    constexpr uint64_t kCases = 2000;
    for (uint64_t seed = 1; seed <= kCases; seed++) {
        SCOPED_TRACE(testing::Message() << "seed " << seed);
        const Case c = random_case(seed);
        const auto kept = select(c, all_of(c), c.scores.size());
        float best_dropped = -std::numeric_limits<float>::infinity();
        float worst_kept = std::numeric_limits<float>::infinity();
        for (size_t head = 0; head < kept.size(); head++) {
            std::vector<bool> stays(c.scores[head].size(), false);
            for (const int32_t i : kept[head]) stays[static_cast<size_t>(i)] = true;
            const bool beyond_floor = std::ssize(kept[head]) > c.floor;
            for (size_t i = 0; i < stays.size(); i++) {
                const float score = c.scores[head][i];
                if (std::isnan(score)) continue;
                if (!stays[i]) best_dropped = std::max(best_dropped, score);
                if (stays[i] && beyond_floor) worst_kept = std::min(worst_kept, score);
            }
        }
        ASSERT_GE(worst_kept, best_dropped);
    }
}

}  // namespace
}  // namespace cake
