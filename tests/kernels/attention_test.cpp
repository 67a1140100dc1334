#include "kernels/attention.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "kernels/kernel_cases.hpp"

namespace cake {
namespace {

using test::CacheRows;
using test::for_each_target;
using test::normal;

constexpr ggml_type kTypes[] = {GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16, GGML_TYPE_Q8_0, GGML_TYPE_Q4_0};

struct Case {
    AttentionProblem problem;
    ggml_type type_k = GGML_TYPE_F32;
    ggml_type type_v = GGML_TYPE_F32;
    int32_t n_threads = 1;
    bool has_sinks = false;
    float key_size = 1;
    uint64_t seed = 1;

    std::string text() const {
        std::string lengths;
        for (const auto& head : problem.heads) lengths += fmt::format(" {}+{}", head.begin, head.length);
        return fmt::format(
            "seed {}: {} heads over{}, {} queries, dims {} {}, {} {}, {} threads, window {}, softcap {}{}", seed,
            problem.n_head, lengths, problem.n_queries, problem.dim_k, problem.dim_v, ggml_type_name(type_k),
            ggml_type_name(type_v), n_threads, problem.window, problem.softcap, has_sinks ? ", sinks" : "");
    }
};

/// Attention computed by its definition in float64.
std::vector<double> reference(const Case& c, const std::vector<float>& queries, const CacheRows& k, const CacheRows& v,
                              const std::vector<float>& sinks) {
    const auto& p = c.problem;
    const auto n_group = p.n_head / static_cast<int32_t>(p.heads.size());
    std::vector<double> result;
    for (int64_t i = 0; i < p.n_queries; i++) {
        for (int32_t head = 0; head < p.n_head; head++) {
            const auto [begin, length] = p.heads[static_cast<size_t>(head / n_group)];
            const int64_t seen = length - (p.n_queries - 1 - i);
            const int64_t first = p.window > 0 ? std::max<int64_t>(0, seen - p.window) : 0;
            std::vector<double> logits;
            for (int64_t j = first; j < seen; j++) {
                double dot = 0;
                for (int32_t d = 0; d < p.dim_k; d++)
                    dot += static_cast<double>(queries[static_cast<size_t>((i * p.n_head + head) * p.dim_k + d)]) *
                           k.at(begin + j, d);
                dot *= p.scale;
                logits.push_back(p.softcap > 0 ? p.softcap * std::tanh(dot / p.softcap) : dot);
            }
            double largest = logits.empty() ? 0 : std::ranges::max(logits);
            double sum = 0;
            if (c.has_sinks) {
                largest = std::max<double>(largest, sinks[static_cast<size_t>(head)]);
                sum = std::exp(sinks[static_cast<size_t>(head)] - largest);
            }
            std::vector<double> row(static_cast<size_t>(p.dim_v));
            for (int64_t j = first; j < seen; j++) {
                const double weight = std::exp(logits[static_cast<size_t>(j - first)] - largest);
                sum += weight;
                for (int32_t d = 0; d < p.dim_v; d++) row[static_cast<size_t>(d)] += weight * v.at(begin + j, d);
            }
            for (const double x : row) result.push_back(sum > 0 ? x / sum : 0);
        }
    }
    return result;
}

/// Largest absolute difference from the reference. The values are about 1 in size.
double error_of(const Case& c) {
    const auto& p = c.problem;
    int64_t n_slots = 0;
    for (const auto& head : p.heads) n_slots = std::max(n_slots, head.begin + head.length);
    const auto queries = normal(static_cast<size_t>(p.n_queries * p.n_head * p.dim_k), c.seed);
    const CacheRows k(c.type_k, p.dim_k, normal(static_cast<size_t>(n_slots * p.dim_k), c.seed + 1, c.key_size));
    const CacheRows v(c.type_v, p.dim_v, normal(static_cast<size_t>(n_slots * p.dim_v), c.seed + 2));
    const auto sinks = normal(static_cast<size_t>(p.n_head), c.seed + 3, 3);

    std::vector<float> result(static_cast<size_t>(p.n_queries * p.n_head * p.dim_v), NAN);
    Attention attention(p, c.n_threads);
    std::vector<float> scratch(attention.n_scratch(), NAN);
    const auto n_head = static_cast<size_t>(p.n_head);
    const auto dim_k = static_cast<size_t>(p.dim_k);
    const auto dim_v = static_cast<size_t>(p.dim_v);
    const AttentionData data{.queries = {.data = queries.data(), .head_stride = dim_k, .stride = dim_k * n_head},
                             .k = k.rows(),
                             .v = v.rows(),
                             .sinks = c.has_sinks ? sinks.data() : nullptr,
                             .result = {.data = result.data(), .head_stride = dim_v, .stride = dim_v * n_head}};
    test::on_threads(c.n_threads, [&](int32_t thread) { attention.run(data, scratch, thread); });

    const auto expected = reference(c, queries, k, v, sinks);
    double error = 0;
    for (size_t i = 0; i < result.size(); i++) {
        if (!std::isfinite(result[i])) return INFINITY;
        error = std::max(error, std::abs(result[i] - expected[i]));
    }
    return error;
}

/// Draws a random case from all shapes that a model or cache may have.
Case draw(uint64_t seed) {
    std::mt19937_64 random(seed);
    const auto number = [&](int64_t least, int64_t most) {
        return least + static_cast<int64_t>(random() % static_cast<uint64_t>(most - least + 1));
    };
    const auto one_of = [&]<size_t kN>(const int64_t (&values)[kN]) { return values[random() % kN]; };
    Case c{.n_threads = static_cast<int32_t>(one_of({1, 2, 3, 16})), .seed = seed};
    c.type_k = kTypes[random() % 5];
    c.type_v = kTypes[random() % 5];
    auto& p = c.problem;
    const auto dim = [&](ggml_type type) {
        return static_cast<int32_t>(ggml_blck_size(type) > 1 ? one_of({32, 64, 96, 128, 256})
                                                             : one_of({1, 8, 17, 33, 64, 80, 128}));
    };
    p.dim_k = dim(c.type_k);
    p.dim_v = dim(c.type_v);
    const int64_t n_head_kv = number(1, 4);
    p.n_head = static_cast<int32_t>(n_head_kv * number(1, 9));
    p.n_queries = number(0, 2) == 0 ? 1 : number(2, 40);
    int64_t begin = number(0, 5);
    for (int64_t i = 0; i < n_head_kv; i++) {
        const int64_t length = p.n_queries - 1 + number(1, number(0, 3) == 0 ? 900 : 70);
        p.heads.push_back({.begin = begin, .length = length});
        begin += length + number(0, 9);
    }
    p.scale = 1.0F / std::sqrt(static_cast<float>(p.dim_k));
    if (number(0, 3) == 0) p.softcap = static_cast<float>(number(1, 50));
    if (number(0, 3) == 0) p.window = number(1, 50);
    c.has_sinks = number(0, 3) == 0;
    return c;
}

TEST(Attention, IsTheDefinitionForEveryShapeTypeAndInstructionSet) {
    for_each_target([] {
        for (uint64_t seed = 1; seed <= 150; seed++) {
            auto c = draw(seed);
            SCOPED_TRACE(c.text());
            EXPECT_LT(error_of(c), 2e-6 * std::sqrt(static_cast<double>(c.problem.dim_k)));
            c.problem.products = Products::bf16;
            EXPECT_LT(error_of(c), 0.04);
        }
    });
}

TEST(Attention, OfALongPromptIsTheDefinition) {
    for_each_target([] {
        for (const auto products : {Products::f32, Products::bf16}) {
            Case c{.problem = {.n_head = 7,
                               .n_queries = 90,
                               .dim_k = 64,
                               .dim_v = 64,
                               .heads = {{.begin = 3, .length = 1500}},
                               .scale = 0.125F,
                               .products = products},
                   .type_k = GGML_TYPE_F16,
                   .type_v = GGML_TYPE_F16,
                   .n_threads = 2};
            EXPECT_LT(error_of(c), products == Products::f32 ? 2e-6 : 4e-3) << c.text();
        }
    });
}

/// The result of `n_team` threads for 4 heads of one width, [width, 4, n_queries].
std::vector<float> result_of(Attention& attention, const std::vector<float>& queries, const CacheRows& k,
                             const CacheRows& v, int32_t n_team) {
    const auto width = static_cast<size_t>(k.rows().dim);
    std::vector<float> result(queries.size(), NAN);
    std::vector<float> scratch(attention.n_scratch(), NAN);
    const AttentionData data{.queries = {.data = queries.data(), .head_stride = width, .stride = 4 * width},
                             .k = k.rows(),
                             .v = v.rows(),
                             .result = {.data = result.data(), .head_stride = width, .stride = 4 * width}};
    test::on_threads(n_team, [&](int32_t thread) { attention.run(data, scratch, thread); });
    return result;
}

TEST(Attention, IsTheSameForEveryTeamSize) {
    constexpr int32_t kThreads = 6;
    constexpr size_t kDim = 32;
    for (const int64_t n_queries : {1, 90}) {
        const AttentionProblem p{.n_head = 4,
                                 .n_queries = n_queries,
                                 .dim_k = kDim,
                                 .dim_v = kDim,
                                 .heads = {{.begin = 0, .length = 3000}, {.begin = 3000, .length = 2700}},
                                 .scale = 0.2F};
        const auto queries = normal(static_cast<size_t>(n_queries) * 4 * kDim, 1);
        const CacheRows k(GGML_TYPE_F16, p.dim_k, normal(5700 * kDim, 2));
        const CacheRows v(GGML_TYPE_F16, p.dim_v, normal(5700 * kDim, 3));
        const auto result_of_team = [&](int32_t n_team) {
            Attention attention(p, kThreads);
            return result_of(attention, queries, k, v, n_team);
        };
        const auto whole = result_of_team(kThreads);
        for (int32_t n_team = 1; n_team < kThreads; n_team++) EXPECT_EQ(result_of_team(n_team), whole) << n_team;
    }
}

TEST(Attention, OfOtherSlotsIsThatOfANewOne) {
    constexpr size_t kDim = 32;
    constexpr int32_t kThreads = 3;
    AttentionProblem p{.n_head = 4, .n_queries = 1, .dim_k = kDim, .dim_v = kDim, .scale = 0.2F};
    const auto queries = normal(4 * kDim, 1);
    const CacheRows k(GGML_TYPE_F16, p.dim_k, normal(6000 * kDim, 2));
    const CacheRows v(GGML_TYPE_F16, p.dim_v, normal(6000 * kDim, 3));
    const auto run = [&](Attention& attention) { return result_of(attention, queries, k, v, kThreads); };
    p.heads = {{.begin = 0, .length = 500}, {.begin = 3000, .length = 500}};
    Attention reused(p, kThreads);
    run(reused);
    // As many slots as make one task, then several, then fewer again, and one head that grows while the other shrinks.
    for (const auto& [first, second] : {std::pair{512, 512}, {513, 513}, {2900, 2700}, {40, 40}, {30, 2800}, {1, 1}}) {
        p.heads = {{.begin = 7, .length = first}, {.begin = 3001, .length = second}};
        reused.set_slots(p.heads);
        Attention fresh(p, kThreads);
        EXPECT_EQ(reused.n_scratch(), fresh.n_scratch());
        EXPECT_EQ(run(reused), run(fresh)) << first << " and " << second;
    }
}

TEST(Attention, SurvivesLogitsOfTenThousand) {
    for_each_target([] {
        for (uint64_t seed = 1; seed <= 20; seed++) {
            auto c = draw(seed);
            c.problem.softcap = 0;
            c.problem.products = Products::f32;
            c.type_k = GGML_TYPE_F32;
            c.key_size = 1e4F;
            SCOPED_TRACE(c.text());
            // Nearly all weight is on one key, so a relative error of 1e-7 in the huge logits already shifts some of
            // it.
            EXPECT_LT(error_of(c), 0.05);
        }
    });
}

TEST(Attention, OfOneKeyIsItsValue) {
    for_each_target([] {
        Case c{.problem = {.n_head = 1, .n_queries = 1, .dim_k = 1, .dim_v = 1, .heads = {{.begin = 0, .length = 1}}}};
        EXPECT_EQ(error_of(c), 0);
    });
}

}  // namespace
}  // namespace cake
