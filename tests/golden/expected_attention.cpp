#include "method/expected_attention.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "golden/golden_layer.hpp"
#include "method/pinned.hpp"
#include "method/published_scorers.hpp"
#include "method/selection.hpp"

namespace cake::test {

namespace {

/// Mean of the rotations for the `n_future` positions after the text.
std::vector<float> mean_rotation(const GoldenFile& file, const GoldenShape& shape) {
    const auto dim = static_cast<size_t>(shape.head_dim);
    const bool pairs = file.text("rope") == "pairs";
    const int32_t n_future = file.integer("n_future");
    std::vector<double> sum(dim * dim, 0.0);
    for (size_t i = 0; i < dim / 2; i++) {
        const size_t first = pairs ? 2 * i : i;
        const size_t second = pairs ? 2 * i + 1 : i + dim / 2;
        const double frequency = std::pow(static_cast<double>(file.real("rope_base")),
                                          -2.0 * static_cast<double>(i) / static_cast<double>(dim));
        for (int32_t position = shape.n_tokens; position < shape.n_tokens + n_future; position++) {
            const double angle = position * frequency;
            sum[first * dim + first] += std::cos(angle);
            sum[second * dim + second] += std::cos(angle);
            sum[first * dim + second] -= std::sin(angle);
            sum[second * dim + first] += std::sin(angle);
        }
    }
    std::vector<float> mean;
    for (const double x : sum) mean.push_back(static_cast<float>(x / n_future));
    return mean;
}

/// Moments of the queries after the sinks, added in chunks as a text is read.
QueryMoments moments_of(const GoldenFile& file, const GoldenShape& shape) {
    const auto queries = file.floats("q_before_rope", {shape.head_dim, shape.n_tokens, shape.n_head});
    const auto n_sink = static_cast<size_t>(file.integer("n_sink"));
    QueryMoments moments(shape.n_head, shape.head_dim);
    for (int32_t head = 0; head < shape.n_head; head++) {
        auto rest =
            part(queries, head, shape.head_dim * shape.n_tokens).subspan(n_sink * static_cast<size_t>(shape.head_dim));
        constexpr size_t kChunk = 50;
        while (!rest.empty()) {
            const size_t n = std::min(rest.size(), kChunk * static_cast<size_t>(shape.head_dim));
            moments.add(head, rest.first(n));
            rest = rest.subspan(n);
        }
    }
    return moments;
}

}  // namespace

void check_expected_attention(const GoldenFile& file) {
    const GoldenShape shape(file);
    const int32_t n_sink = file.integer("n_sink");
    const int32_t squared = shape.head_dim * shape.head_dim;
    const auto moments = moments_of(file, shape);
    const auto rotation = mean_rotation(file, shape);
    const auto expected_rotation = file.floats("rotation", {shape.head_dim, shape.head_dim});
    for (size_t i = 0; i < rotation.size(); i++)
        ASSERT_NEAR(rotation[i], expected_rotation[i], 2e-5) << "rotation " << i;
    EXPECT_EQ(n_sink, kSinks);

    std::vector<float> means;
    std::vector<float> covariances;
    for (int32_t head = 0; head < shape.n_head; head++) {
        const auto mean = moments.mean(head);
        const auto covariance = moments.covariance(head);
        expect_near(mean, part(file.floats("mean", {shape.head_dim, shape.n_head}), head, shape.head_dim), "mean");
        expect_near(covariance,
                    part(file.floats("covariance", {shape.head_dim, shape.head_dim, shape.n_head}), head, squared),
                    "covariance");
        means.append_range(rotated_mean(mean, rotation));
        covariances.append_range(rotated_covariance(covariance, rotation));
    }
    // The authors rotate in float32, as they do when they compute the rotation.
    const auto near = [](std::span<const float> actual, std::span<const float> expected, const char* what) {
        float largest = 0;
        for (const float x : expected) largest = std::max(largest, std::abs(x));
        for (size_t i = 0; i < actual.size(); i++) ASSERT_NEAR(actual[i], expected[i], 1e-4 * largest) << what << i;
    };
    near(means, file.floats("mean_rotated", {shape.head_dim, shape.n_head}), "mean_rotated");
    near(covariances, file.floats("covariance_rotated", {shape.head_dim, shape.head_dim, shape.n_head}),
         "covariance_rotated");

    const auto k = file.floats("k", {shape.head_dim, shape.n_tokens, shape.n_head_kv});
    const auto v = file.floats("v", {shape.head_dim, shape.n_tokens, shape.n_head_kv});
    std::vector<int32_t> positions;
    for (int32_t i = 0; i < shape.n_tokens; i++) positions.push_back(i);
    std::vector<std::vector<float>> scores;
    for (int32_t head = 0; head < shape.n_head_kv; head++) {
        const auto keys = part(k, head, shape.head_dim * shape.n_tokens);
        const auto mean = part(std::span<const float>(means), head, shape.head_dim * shape.n_group);
        const auto covariance = part(std::span<const float>(covariances), head, squared * shape.n_group);
        const auto dim = static_cast<size_t>(shape.head_dim);
        const auto sinks = static_cast<size_t>(n_sink);
        const int64_t n_scored = shape.n_tokens - n_sink;
        const auto of_head = [&](const char* name) {
            return part(file.floats(name, {n_scored, shape.n_head_kv}), head, static_cast<int32_t>(n_scored));
        };
        expect_near(std::span<const float>(expected_attention(keys, mean, {}, dim, sinks)).subspan(sinks),
                    of_head("score_mean_only"), "score_mean_only");
        expect_near(std::span<const float>(expected_attention(keys, mean, covariance, dim, sinks)).subspan(sinks),
                    of_head("score_attention"), "score_attention");
        const HeadKeys all{.positions = positions,
                           .keys = keys,
                           .values = part(v, head, shape.head_dim * shape.n_tokens),
                           .query_mean = mean,
                           .query_covariance = covariance};
        scores.push_back(expected_attention_score({.n_group = shape.n_group, .heads = {&all, 1}}));
        const auto expected = part(file.floats("score", {shape.n_tokens, shape.n_head_kv}), head, shape.n_tokens);
        expect_near(std::span<const float>(scores.back()).subspan(sinks), expected.subspan(sinks), "score");
        for (size_t j = 0; j < sinks; j++) {
            EXPECT_EQ(scores.back()[j], kPinnedScore);
            EXPECT_EQ(expected[j], std::ranges::max(expected)) << "the file's sinks are on top";
        }
    }
    const auto kept =
        select_model(views(scores), int64_t{file.integer("n_kept")} * shape.n_head_kv, file.integer("n_safe"));
    expect_equal(kept, file.integers("head_kept", {shape.n_head_kv}), "head_kept");
    for (int32_t head = 0; head < shape.n_head_kv; head++) {
        const auto i = static_cast<size_t>(head);
        expect_kept(select_top(scores[i], kept[i]),
                    part(file.integers("keep", {shape.n_tokens, shape.n_head_kv}), head, shape.n_tokens), {}, "keep");
    }
}

}  // namespace cake::test
