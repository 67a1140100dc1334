#include "kernels/output_norms.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "kernels/kernel_cases.hpp"

namespace cake {
namespace {

using test::CacheRows;
using test::for_each_target;
using test::normal;

struct Case {
    OutputNormProblem problem;
    ggml_type type = GGML_TYPE_F32;
    int32_t n_threads = 1;
    uint64_t seed = 1;
};

/// The norms in float64, in the layout of OutputNorms.
std::vector<double> reference(const OutputNormProblem& p, const CacheRows& v, const std::vector<float>& output) {
    std::vector<double> result;
    const size_t n_group = static_cast<size_t>(p.n_head) / p.heads.size();
    const auto dim = static_cast<size_t>(p.dim_v);
    for (size_t head = 0; head < p.heads.size(); head++) {
        std::vector<double> mean(static_cast<size_t>(p.heads[head].length), 0.0);
        for (size_t i = 0; i < n_group; i++) {
            for (size_t j = 0; j < mean.size(); j++) {
                double sum = 0;
                for (size_t e = 0; e < static_cast<size_t>(p.n_embd); e++) {
                    const float* row = output.data() + (e * static_cast<size_t>(p.n_head) + head * n_group + i) * dim;
                    double x = 0;
                    for (size_t d = 0; d < dim; d++)
                        x += static_cast<double>(row[d]) *
                             v.at(p.heads[head].begin + static_cast<int64_t>(j), static_cast<int32_t>(d));
                    sum += p.kind == OutputNorm::l1_of_group ? std::abs(x) : x * x;
                }
                mean[j] += sum / static_cast<double>(n_group);
                if (p.kind == OutputNorm::l2_of_head) result.push_back(std::sqrt(sum));
            }
        }
        if (p.kind == OutputNorm::l1_of_group) result.append_range(mean);
    }
    return result;
}

void check(const Case& c) {
    SCOPED_TRACE(fmt::format("seed {}: {} heads on {}, dim {}, n_embd {}, {}, {} threads", c.seed, c.problem.n_head,
                             c.problem.heads.size(), c.problem.dim_v, c.problem.n_embd, ggml_type_name(c.type),
                             c.n_threads));
    int64_t n_slots = 0;
    for (const auto& head : c.problem.heads) n_slots = std::max(n_slots, head.begin + head.length);
    const CacheRows v(c.type, c.problem.dim_v, normal(static_cast<size_t>(n_slots * c.problem.dim_v), c.seed));
    const auto output = normal(static_cast<size_t>(c.problem.n_embd * c.problem.n_head * c.problem.dim_v), c.seed + 1);
    const auto expected = reference(c.problem, v, output);
    for_each_target([&] {
        const OutputNorms norms(c.problem, c.n_threads);
        ASSERT_EQ(norms.n_result(), expected.size());
        // The team may be smaller than configured.
        for (int32_t n_team = 1; n_team <= c.n_threads; n_team++) {
            std::vector<float> result(norms.n_result(), NAN);
            std::vector<float> scratch(norms.n_scratch(), NAN);
            test::on_threads(n_team, [&](int32_t thread) {
                norms.run({.v = v.rows(), .output = output.data()}, result, scratch,
                          {.thread = thread, .n_threads = n_team});
            });
            for (size_t i = 0; i < result.size(); i++)
                ASSERT_NEAR(result[i], expected[i], 2e-6 * expected[i] + 1e-6) << "at " << i;
        }
    });
}

TEST(OutputNorms, AreThoseOfFloat64) {
    for (const auto kind : {OutputNorm::l1_of_group, OutputNorm::l2_of_head}) {
        for (const auto type : {GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16, GGML_TYPE_Q8_0, GGML_TYPE_Q4_0}) {
            check({.problem = {.n_head = 6,
                               .n_embd = 83,
                               .dim_v = 64,
                               .heads = {{.begin = 0, .length = 150}, {.begin = 161, .length = 300}},
                               .kind = kind},
                   .type = type,
                   .n_threads = 3,
                   .seed = 7});
        }
    }
}

TEST(OutputNorms, OfAnySize) {
    std::mt19937_64 random(5);
    for (uint64_t seed = 1; seed <= 40; seed++) {
        const auto draw = [&](int32_t low, int32_t high) {
            return low + static_cast<int32_t>(random() % static_cast<uint64_t>(high - low + 1));
        };
        const int32_t n_head_kv = draw(1, 3);
        Case c{.problem = {.n_head = n_head_kv * draw(1, 4),
                           .n_embd = draw(1, 70),
                           .dim_v = draw(1, 100),
                           .heads = {},
                           .kind = draw(0, 1) == 0 ? OutputNorm::l1_of_group : OutputNorm::l2_of_head},
               .n_threads = draw(1, 3),
               .seed = seed};
        int64_t begin = draw(0, 5);
        for (int32_t head = 0; head < n_head_kv; head++) {
            c.problem.heads.push_back({.begin = begin, .length = draw(0, 200)});
            begin += c.problem.heads.back().length + draw(0, 9);
        }
        check(c);
    }
}

}  // namespace
}  // namespace cake
