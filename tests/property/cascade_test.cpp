#include "method/cascade.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "method/allocator.hpp"
#include "method/selection.hpp"

namespace cake {
namespace {

struct Case {
    std::vector<double> weights;
    std::vector<int32_t> caps;
    int64_t total = 0;
};

int64_t sum(std::span<const int32_t> values) {
    return std::accumulate(values.begin(), values.end(), int64_t{0});
}

/// A random case of 1 to 64 layers. The kinds of weights, caps and totals are drawn independently, so that all
/// combinations occur.
Case random_case(uint64_t seed) {
    std::mt19937_64 random(seed);
    const auto draw = [&](int64_t low, int64_t high) { return std::uniform_int_distribution(low, high)(random); };
    const auto real = [&](double low, double high) { return std::uniform_real_distribution(low, high)(random); };
    const auto n_layer = draw(1, 64);
    const auto kind_of_weight = draw(0, 8);
    const auto kind_of_cap = draw(0, 6);
    const auto same_cap = static_cast<int32_t>(draw(0, 4000));

    Case result;
    for (int64_t l = 0; l < n_layer; l++) {
        double weight = 0;
        switch (kind_of_weight) {
            case 0:
                weight = real(0, 1);
                break;
            case 1:
                weight = std::pow(10, real(-30, 30));
                break;
            case 2:
                weight = draw(0, 1) == 0 ? 0.0 : real(0, 1);
                break;
            case 3:
                weight = 0;
                break;
            case 4:
                weight = 1;
                break;
            case 5:
                weight = static_cast<double>(draw(0, 5));
                break;  // small integers, with ties
            case 6:
                weight = draw(0, 3) == 0 ? 1e200 : real(0, 1e-3);
                break;
            case 7:
                weight = std::pow(10, real(-320, 200));
                break;  // includes denormals
            default:
                weight = real(200, 1500) * std::pow(real(1e-4, 0.4), 1 / 0.4);
                break;  // as in real models
        }
        int32_t cap = 0;
        switch (kind_of_cap) {
            case 0:
                cap = same_cap;
                break;
            case 1:
                cap = static_cast<int32_t>(draw(0, 4000));
                break;
            case 2:
                cap = 0;
                break;
            case 3:
                cap = static_cast<int32_t>(draw(0, 3));
                break;
            case 4:
                cap = draw(0, 1) == 0 ? 0 : static_cast<int32_t>(draw(1, 1000));
                break;
            case 5:
                cap = std::numeric_limits<int32_t>::max();
                break;
            default:
                cap = static_cast<int32_t>(std::pow(10, real(0, 6)));
                break;
        }
        result.weights.push_back(weight);
        result.caps.push_back(cap);
    }
    const int64_t all = sum(result.caps);
    switch (draw(0, 6)) {
        case 0:
            result.total = 0;
            break;
        case 1:
            result.total = draw(0, n_layer);
            break;
        case 2:
            result.total = all;
            break;
        case 3:
            result.total = all + draw(1, 1000);
            break;
        case 4:
            result.total = n_layer * draw(0, 100);
            break;
        default:
            result.total = draw(0, all);
            break;
    }
    return result;
}

TEST(CascadeProperty, IsOneAllocationAtTheEndForRandomCases) {
    constexpr uint64_t kCases = 12000;
    for (uint64_t seed = 1; seed <= kCases; seed++) {
        SCOPED_TRACE(testing::Message() << "seed " << seed);
        const auto c = random_case(seed);
        const auto n_layer = c.weights.size();
        Cascade cascade;
        std::vector<int32_t> budgets;
        int64_t all = 0;
        for (size_t stage = 0; stage < n_layer; stage++) {
            const auto sliced = cascade.join(c.weights[stage], c.caps[stage], c.total);
            all += c.caps[stage];
            ASSERT_EQ(sliced.size(), stage + 1);
            for (size_t l = 0; l <= stage; l++) {
                ASSERT_GE(sliced[l], 0) << "stage " << stage << " layer " << l;
                ASSERT_LE(sliced[l], c.caps[l]) << "stage " << stage << " layer " << l;
                if (l < stage) {
                    ASSERT_LE(sliced[l], budgets[l]) << "rises at stage " << stage << " layer " << l;
                }
            }
            budgets.assign(sliced.begin(), sliced.end());
            ASSERT_LE(sum(budgets), c.total) << "stage " << stage;
            ASSERT_GE(sum(budgets), std::min(c.total, all) - static_cast<int64_t>(stage + 1)) << "stage " << stage;
        }
        ASSERT_EQ(budgets, water_fill(c.total, c.weights, c.caps));
    }
}

TEST(WaterFillProperty, EveryLayerIsFullOrAtTheCommonLevel) {
    constexpr uint64_t kCases = 10000;
    for (uint64_t seed = 1; seed <= kCases; seed++) {
        SCOPED_TRACE(testing::Message() << "seed " << seed);
        const auto c = random_case(seed);
        const auto budgets = water_fill(c.total, c.weights, c.caps);
        // A layer below its cap gets floor(lambda * weight), so a single lambda must satisfy the limits of all layers.
        double at_least = 0;
        double below = std::numeric_limits<double>::infinity();
        bool open = false;
        for (size_t l = 0; l < budgets.size(); l++) {
            const double weight = c.weights[l];
            if (weight <= 0) continue;
            const double rounding = 1e-5 + 1e-12 * budgets[l];
            at_least = std::max(at_least, (budgets[l] - rounding) / weight);
            if (budgets[l] < c.caps[l]) {
                below = std::min(below, (budgets[l] + 1 + rounding) / weight);
                open = true;
            }
        }
        ASSERT_LE(at_least, below);
        // While a layer with a preference has room left, layers without one get nothing.
        for (size_t l = 0; open && l < budgets.size(); l++) {
            if (c.weights[l] <= 0) {
                ASSERT_EQ(budgets[l], 0) << "layer " << l;
            }
        }
    }
}

TEST(SelectionProperty, DroppingInStagesKeepsWhatDroppingOnceKeeps) {
    constexpr uint64_t kCases = 10000;
    for (uint64_t seed = 1; seed <= kCases; seed++) {
        SCOPED_TRACE(testing::Message() << "seed " << seed);
        std::mt19937_64 random(seed);
        const size_t n_keys = random() % 300;
        const bool coarse = random() % 2 == 0;  // produces many equal scores
        const bool with_nan = random() % 4 == 0;
        std::vector<float> scores(n_keys);
        for (float& score : scores) {
            score = coarse ? static_cast<float>(random() % 5) : std::uniform_real_distribution<float>(0, 1)(random);
            if (with_nan && random() % 4 == 0) score = std::numeric_limits<float>::quiet_NaN();
        }
        std::vector<int32_t> kept(n_keys);  // indices into `scores`
        std::iota(kept.begin(), kept.end(), 0);
        auto budget = static_cast<int32_t>(n_keys + random() % 3);
        const size_t n_stage = 1 + random() % 10;
        for (size_t stage = 0; stage < n_stage; stage++) {
            budget -= static_cast<int32_t>(random() % static_cast<uint64_t>(budget / 3 + 1));
            std::vector<float> kept_scores;
            for (const int32_t index : kept) kept_scores.push_back(scores[static_cast<size_t>(index)]);
            std::vector<int32_t> still;
            for (const int32_t i : select_top(kept_scores, budget)) still.push_back(kept[static_cast<size_t>(i)]);
            kept = std::move(still);
        }
        ASSERT_EQ(kept, select_top(scores, budget));
    }
}

TEST(SelectionProperty, HeadsThatCompeteInStagesKeepWhatTheyKeepAtOnce) {
    constexpr uint64_t kCases = 3000;
    for (uint64_t seed = 1; seed <= kCases; seed++) {
        SCOPED_TRACE(testing::Message() << "seed " << seed);
        std::mt19937_64 random(seed);
        const size_t n_head = 1 + random() % 8;
        const auto window = static_cast<int32_t>(1 + random() % 9);
        const size_t n_keys = random() % 200;
        const bool coarse = random() % 2 == 0;  // produces many equal scores
        std::vector<std::vector<float>> scores(n_head);
        for (auto& head : scores) {
            const double scale = std::pow(10, std::uniform_real_distribution(-2.0, 2.0)(random));
            for (size_t i = 0; i < n_keys; i++) {
                const double x = std::uniform_real_distribution(0.0, scale)(random);
                head.push_back(static_cast<float>(coarse ? std::floor(x) : x));
                if (random() % 50 == 0) head.back() = std::numeric_limits<float>::quiet_NaN();
            }
            head.resize(n_keys + static_cast<size_t>(window), std::numeric_limits<float>::infinity());
        }
        const auto select = [&](const std::vector<std::vector<int32_t>>& from, int32_t budget) {
            std::vector<std::vector<float>> kept_scores;
            for (size_t head = 0; head < n_head; head++) {
                auto& of_head = kept_scores.emplace_back();
                for (const int32_t i : from[head]) of_head.push_back(scores[head][static_cast<size_t>(i)]);
            }
            const std::vector<std::span<const float>> views(kept_scores.begin(), kept_scores.end());
            auto chosen = select_heads(views, budget, window, {.split = HeadSplit::adaptive, .floor = 0.2});
            for (size_t head = 0; head < n_head; head++)
                for (int32_t& i : chosen[head]) i = from[head][static_cast<size_t>(i)];
            return chosen;
        };
        std::vector<std::vector<int32_t>> all(n_head);
        for (auto& head : all) {
            head.resize(n_keys + static_cast<size_t>(window));
            std::iota(head.begin(), head.end(), 0);
        }
        auto kept = all;
        auto budget = static_cast<int32_t>(n_keys) + window;
        for (size_t stage = 0; stage < 1 + random() % 8; stage++) {
            budget -= static_cast<int32_t>(random() % static_cast<uint64_t>((budget - window) / 2 + 1));
            kept = select(kept, budget);
            size_t n_kept = 0;
            for (const auto& head : kept) {
                n_kept += head.size();
                ASSERT_GE(static_cast<int32_t>(head.size()), window + (budget - window) / 5);
                for (int32_t i = 0; i < window; i++)
                    ASSERT_EQ(head[head.size() - 1 - static_cast<size_t>(i)],
                              static_cast<int32_t>(n_keys) + window - 1 - i);
            }
            ASSERT_EQ(n_kept, static_cast<size_t>(budget) * n_head);
        }
        ASSERT_EQ(kept, select(all, budget));
    }
}

TEST(SelectionProperty, ACascadeOfLayersKeepsWhatOneAllocationWouldKeep) {
    constexpr uint64_t kCases = 300;
    for (uint64_t seed = 1; seed <= kCases; seed++) {
        SCOPED_TRACE(testing::Message() << "seed " << seed);
        auto c = random_case(seed);
        for (int32_t& cap : c.caps) cap = std::min(cap, 200);
        c.total = std::min(c.total, sum(c.caps));
        std::mt19937_64 random(seed);
        std::vector<std::vector<float>> scores;
        std::vector<std::vector<int32_t>> kept;
        Cascade cascade;
        for (size_t stage = 0; stage < c.weights.size(); stage++) {
            auto& layer = scores.emplace_back(static_cast<size_t>(c.caps[stage]));
            for (float& score : layer) score = static_cast<float>(random() % 50);
            auto& all = kept.emplace_back(layer.size());
            std::iota(all.begin(), all.end(), 0);
            const auto budgets = cascade.join(c.weights[stage], c.caps[stage], c.total);
            for (size_t l = 0; l <= stage; l++) {
                std::vector<float> kept_scores;
                for (const int32_t index : kept[l]) kept_scores.push_back(scores[l][static_cast<size_t>(index)]);
                std::vector<int32_t> still;
                for (const int32_t i : select_top(kept_scores, budgets[l]))
                    still.push_back(kept[l][static_cast<size_t>(i)]);
                kept[l] = std::move(still);
            }
        }
        const auto once = water_fill(c.total, c.weights, c.caps);
        for (size_t l = 0; l < once.size(); l++) ASSERT_EQ(kept[l], select_top(scores[l], once[l])) << "layer " << l;
    }
}

}  // namespace
}  // namespace cake
