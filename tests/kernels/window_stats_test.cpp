#include "kernels/window_stats.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "kernels/kernel_cases.hpp"

namespace cake {
namespace {

using test::CacheRows;
using test::for_each_target;
using test::normal;

/// Expected statistics, computed in float64.
struct Expected {
    std::vector<double> values;  // in the layout of WindowStats
    double dispersion = 0;
    double shift = 0;
};

struct Case {
    WindowProblem problem;
    ggml_type type = GGML_TYPE_F32;
    int32_t n_threads = 1;
    float key_size = 1;
    uint64_t seed = 1;
    bool has_sinks = false;

    std::string text() const {
        std::string lengths;
        for (size_t i = 0; i < problem.heads.size(); i++)
            lengths += fmt::format(" {}+{} ({})", problem.heads[i].begin, problem.heads[i].length, problem.n_keys[i]);
        return fmt::format("seed {}: {} heads over{}, {} queries, dim {}, {}, {} threads, softcap {}, sinks {}", seed,
                           problem.n_head, lengths, problem.queries.size(), problem.dim_k, ggml_type_name(type),
                           n_threads, problem.softcap, has_sinks);
    }
};

/// Softmax weights of a query over the slots that it sees; 0 for the last `unseen` slots. The sink takes its share.
std::vector<double> weights_of(const WindowProblem& p, const float* query, const CacheRows& k, const HeadSlots& head,
                               int64_t unseen, double sink) {
    std::vector<double> weights(static_cast<size_t>(head.length));
    const int64_t seen = std::max<int64_t>(head.length - unseen, 0);
    double largest = sink;
    for (int64_t j = 0; j < seen; j++) {
        double dot = 0;
        for (int32_t d = 0; d < p.dim_k; d++) dot += static_cast<double>(query[d]) * k.at(head.begin + j, d);
        dot *= p.scale;
        if (p.softcap > 0) dot = p.softcap * std::tanh(dot / p.softcap);
        weights[static_cast<size_t>(j)] = dot;
        largest = std::max(largest, dot);
    }
    double sum = std::isfinite(sink) ? std::exp(sink - largest) : 0;
    for (int64_t j = 0; j < seen; j++)
        sum += weights[static_cast<size_t>(j)] = std::exp(weights[static_cast<size_t>(j)] - largest);
    for (int64_t j = 0; j < seen; j++) weights[static_cast<size_t>(j)] /= sum;
    return weights;
}

/// `largest`: for each key and query head, the largest weight times the factor of the query.
Expected reference(const WindowProblem& p, const std::vector<float>& queries, const CacheRows& k,
                   const std::vector<float>& sinks) {
    Expected result;
    const size_t n_group = static_cast<size_t>(p.n_head) / p.heads.size();
    for (size_t kv = 0; kv < p.heads.size(); kv++) {
        const auto n_keys = static_cast<size_t>(p.n_keys[kv]);
        std::vector<double> variances;
        std::vector<double> last;
        for (size_t g = 0; g < n_group; g++) {
            std::vector<std::vector<double>> weights;
            for (const auto& query : p.queries) {
                const size_t at = (static_cast<size_t>(query.row) * static_cast<size_t>(p.n_head) + kv * n_group + g) *
                                  static_cast<size_t>(p.dim_k);
                weights.push_back(weights_of(p, queries.data() + at, k, p.heads[kv], query.unseen,
                                             sinks.empty() ? -std::numeric_limits<double>::infinity()
                                                           : static_cast<double>(sinks[kv * n_group + g])));
            }
            const auto n = static_cast<double>(weights.size());
            for (size_t j = 0; p.largest && j < n_keys; j++) {
                double most = 0;
                for (size_t i = 0; i < weights.size(); i++)
                    most =
                        std::max(most, weights[i][j] * (p.factors.empty() ? 1.0 : static_cast<double>(p.factors[i])));
                result.values.push_back(most);
            }
            for (size_t j = 0; !p.largest && j < n_keys; j++) {
                double mean = 0;
                double variance = 0;
                for (const auto& row : weights) {
                    mean += row[j] / n;
                    if (row[j] > 0) result.dispersion -= row[j] * std::log(row[j]);
                }
                for (const auto& row : weights) variance += (row[j] - mean) * (row[j] - mean) / std::max(1.0, n - 1);
                result.values.push_back(mean);
                variances.push_back(variance);
                last.push_back(weights[p.newest][j]);
                result.shift += variance;
            }
        }
        result.values.insert(result.values.end(), variances.begin(), variances.end());
        result.values.insert(result.values.end(), last.begin(), last.end());
    }
    return result;
}

/// Runs both passes on `n_team` threads, which may be fewer than WindowStats was created for.
void run(WindowStats& stats, const WindowData& data, int32_t n_team, std::vector<float>& sums,
         std::vector<float>& result) {
    sums.assign(stats.n_sums(), NAN);
    result.assign(stats.n_result(), NAN);
    std::vector<float> scratch(stats.n_scratch(), NAN);
    test::on_threads(
        n_team, [&](int32_t thread) { stats.find_sums(data, sums, scratch, {.thread = thread, .n_threads = n_team}); });
    test::on_threads(n_team, [&](int32_t thread) {
        stats.reduce(data, sums, result, scratch, {.thread = thread, .n_threads = n_team});
    });
}

void expect_the_definition(const Case& c) {
    SCOPED_TRACE(c.text());
    const auto& p = c.problem;
    int64_t n_slots = 0;
    int64_t n_rows = 0;
    for (const auto& head : p.heads) n_slots = std::max(n_slots, head.begin + head.length);
    for (const auto& query : p.queries) n_rows = std::max(n_rows, query.row + 1);
    const auto width = static_cast<size_t>(p.n_head * p.dim_k);
    const auto queries = normal(static_cast<size_t>(n_rows) * width, c.seed);
    const CacheRows k(c.type, p.dim_k, normal(static_cast<size_t>(n_slots * p.dim_k), c.seed + 1, c.key_size));

    const auto sinks = c.has_sinks ? normal(static_cast<size_t>(p.n_head), c.seed + 2, 3) : std::vector<float>();
    WindowStats stats(p, c.n_threads);
    const WindowData data{
        .queries = {.data = queries.data(), .head_stride = static_cast<size_t>(p.dim_k), .stride = width},
        .k = k.rows(),
        .sinks = sinks.empty() ? nullptr : sinks.data()};
    std::vector<float> sums;
    std::vector<float> result;
    run(stats, data, c.n_threads, sums, result);

    const auto expected = reference(p, queries, k, sinks);
    ASSERT_EQ(result.size(), expected.values.size());
    // The weights have a relative error. A variance can be far smaller than the weights, so its tolerance is its own
    // relative error plus the error that it inherits from the weights.
    constexpr double kShare = 1e-5;
    if (p.largest) {
        for (size_t i = 0; i < result.size(); i++)
            ASSERT_NEAR(result[i], expected.values[i], kShare * expected.values[i] + 1e-30) << i;
        return;
    }
    for (size_t head = 0; head < p.heads.size(); head++) {
        const size_t begin = stats.result_begin(head);
        const size_t n = (stats.result_begin(head + 1) - begin) / 3;
        for (size_t i = begin; i < begin + n; i++) {
            const double mean = expected.values[i];
            const double variance = expected.values[i + n];
            ASSERT_NEAR(result[i], mean, kShare * mean + 1e-30) << i;
            ASSERT_NEAR(result[i + n], variance,
                        kShare * (variance + mean * std::sqrt(variance)) + kShare * kShare * mean * mean + 1e-30)
                << i;
            ASSERT_NEAR(result[i + 2 * n], expected.values[i + 2 * n], kShare * expected.values[i + 2 * n] + 1e-30)
                << i;
        }
    }
    EXPECT_NEAR(stats.dispersion(), expected.dispersion, 1e-5 * expected.dispersion + 1e-9);
    EXPECT_NEAR(stats.shift(), expected.shift, 1e-5 * expected.shift + 1e-12);
}

void expect_the_largest(Case c) {
    c.problem.largest = true;
    expect_the_definition(c);
    c.problem.factors = normal(c.problem.queries.size(), c.seed + 3);
    for (float& factor : c.problem.factors) factor = std::abs(factor);
    expect_the_definition(c);
}

Case draw(uint64_t seed) {
    std::mt19937_64 random(seed);
    const auto number = [&](int64_t least, int64_t most) {
        return least + static_cast<int64_t>(random() % static_cast<uint64_t>(most - least + 1));
    };
    constexpr ggml_type kTypes[] = {GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16, GGML_TYPE_Q8_0, GGML_TYPE_Q4_0};
    constexpr int32_t kDims[] = {1, 8, 17, 33, 64, 80, 128};
    constexpr int32_t kThreads[] = {1, 2, 5};
    Case c{.n_threads = kThreads[random() % 3], .seed = seed};
    c.type = kTypes[random() % 5];
    auto& p = c.problem;
    p.dim_k = ggml_blck_size(c.type) > 1 ? static_cast<int32_t>(32 * number(1, 4)) : kDims[random() % 7];
    const int64_t n_head_kv = number(1, 3);
    p.n_head = static_cast<int32_t>(n_head_kv * number(1, 5));
    // The queries are in a ring buffer: the oldest may be in any row, and some rows may be unused.
    const int64_t n_rows = number(0, 3) == 0 ? 1 : number(2, 33);
    const int64_t first = number(0, n_rows - 1);
    const int64_t n_queries = number(1, n_rows);
    for (int64_t row = 0; row < n_rows; row++) {
        const int64_t unseen = (first - row + n_rows) % n_rows;
        if (unseen < n_queries) p.queries.push_back({.row = row, .unseen = unseen});
    }
    p.newest = static_cast<size_t>(std::ranges::min_element(p.queries, {}, &WindowQuery::unseen) - p.queries.begin());
    int64_t begin = number(0, 5);
    for (int64_t i = 0; i < n_head_kv; i++) {
        const int64_t length = n_rows - 1 + number(1, number(0, 3) == 0 ? 900 : 70);
        p.heads.push_back({.begin = begin, .length = length});
        p.n_keys.push_back(std::max<int64_t>(0, length - number(0, n_rows)));
        begin += length + number(0, 9);
    }
    p.scale = 1.0F / std::sqrt(static_cast<float>(p.dim_k));
    if (number(0, 3) == 0) p.softcap = static_cast<float>(number(1, 50));
    c.has_sinks = number(0, 2) == 0;
    return c;
}

TEST(WindowStats, AreTheDefinitionForEveryShapeTypeAndInstructionSet) {
    for_each_target([] {
        for (uint64_t seed = 1; seed <= 100; seed++) expect_the_definition(draw(seed));
    });
}

TEST(WindowStats, FindTheLargestWeights) {
    for_each_target([] {
        for (uint64_t seed = 1; seed <= 40; seed++) expect_the_largest(draw(seed));
    });
}

TEST(WindowStats, OfOneQueryHaveNoVariance) {
    for_each_target([] {
        expect_the_definition({.problem = {.n_head = 2,
                                           .dim_k = 8,
                                           .queries = {{.row = 0, .unseen = 0}},
                                           .heads = {{.begin = 0, .length = 300}},
                                           .n_keys = {299},
                                           .scale = 0.3F}});
    });
}

TEST(WindowStats, AreTheSameForEveryTeamSize) {
    constexpr int32_t kThreads = 6;
    const WindowProblem p{.n_head = 4,
                          .dim_k = 16,
                          .queries = {{.row = 0, .unseen = 1}, {.row = 1, .unseen = 0}},
                          .newest = 1,
                          .heads = {{.begin = 0, .length = 3000}, {.begin = 3000, .length = 2700}},
                          .n_keys = {2998, 2698},
                          .scale = 0.25F};
    const auto queries = normal(2 * 4 * 16, 1);
    const CacheRows k(GGML_TYPE_F16, p.dim_k, normal(5700 * 16, 2));
    const WindowData data{.queries = {.data = queries.data(), .head_stride = 16, .stride = 64}, .k = k.rows()};
    std::vector<float> sums;
    std::vector<float> whole;
    WindowStats reference(p, kThreads);
    run(reference, data, kThreads, sums, whole);
    for (int32_t n_team = 1; n_team < kThreads; n_team++) {
        SCOPED_TRACE(n_team);
        WindowStats stats(p, kThreads);
        std::vector<float> result;
        run(stats, data, n_team, sums, result);
        EXPECT_EQ(result, whole);
        EXPECT_EQ(stats.dispersion(), reference.dispersion());
        EXPECT_EQ(stats.shift(), reference.shift());
    }
}

TEST(WindowStats, WithAllWeightOnOneKeyAreFinite) {
    for_each_target([] {
        for (uint64_t seed = 1; seed <= 20; seed++) {
            auto c = draw(seed);
            c.type = GGML_TYPE_F32;
            c.key_size = 1e4F;
            const auto& p = c.problem;
            const auto width = static_cast<size_t>(p.n_head * p.dim_k);
            const auto queries = normal(64 * width, seed);
            const CacheRows k(c.type, p.dim_k, normal(static_cast<size_t>(4000 * p.dim_k), seed + 1, c.key_size));
            WindowStats stats(p, 1);
            const WindowData data{
                .queries = {.data = queries.data(), .head_stride = static_cast<size_t>(p.dim_k), .stride = width},
                .k = k.rows()};
            std::vector<float> sums;
            std::vector<float> result;
            run(stats, data, 1, sums, result);
            EXPECT_TRUE(std::ranges::all_of(result, [](float x) { return x >= 0 && x <= 1.001F; })) << c.text();
            EXPECT_TRUE(std::isfinite(stats.dispersion()) && std::isfinite(stats.shift()));
        }
    });
}

}  // namespace
}  // namespace cake
