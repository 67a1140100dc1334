#include "golden/golden_layer.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "method/kvzip.hpp"

namespace cake::test {

GoldenShape::GoldenShape(const GoldenFile& file)
    : n_head(file.integer("n_head")),
      n_head_kv(file.integer("n_head_kv")),
      head_dim(file.integer("head_dim")),
      n_tokens(file.integer("n_tokens")),
      window(file.has("window") ? file.integer("window") : 0),
      n_keys(n_tokens - window),
      n_group(n_head / n_head_kv) {
    if (n_head_kv < 1 || n_group * n_head_kv != n_head || head_dim < 1 || window < 0 || n_keys < 1)
        throw std::runtime_error("the sizes of the case do not fit together");
}

GoldenLayer::GoldenLayer(const GoldenFile& file, const std::string& suffix, const Scorer& scorer)
    : shape_(file),
      scorer_(scorer),
      stats_(shape_.n_head, std::vector<int64_t>(static_cast<size_t>(shape_.n_head_kv), shape_.n_keys)),
      positions_(static_cast<size_t>(shape_.n_keys)) {
    std::iota(positions_.begin(), positions_.end(), 0);
    const auto k = file.floats("k" + suffix, {shape_.head_dim, shape_.n_tokens, shape_.n_head_kv});
    attend(file, suffix);
    if (scorer.reads.output_norms) project(file, suffix);
    for (int32_t head = 0; head < shape_.n_head_kv; head++) {
        const auto i = static_cast<size_t>(head);
        const auto& stats = stats_.heads[i];
        HeadKeys keys{.positions = positions_, .mean = stats.mean, .variance = stats.variance, .last = stats.last};
        keys.keys = part(k, head, shape_.head_dim * shape_.n_tokens);
        if (scorer.reads.values) {
            const auto v = file.floats("v" + suffix, {shape_.head_dim, shape_.n_tokens, shape_.n_head_kv});
            keys.values = part(v, head, shape_.head_dim * shape_.n_tokens);
        }
        keys.reduced = reduced_[i];
        if (!norms_.empty()) keys.output_norms = std::span(norms_[i]).first(positions_.size());
        heads_.push_back(keys);
    }
}

void GoldenLayer::attend(const GoldenFile& file, const std::string& suffix) {
    const auto q = file.floats("q_window" + suffix, {shape_.head_dim, shape_.window, shape_.n_head});
    const auto k = file.floats("k" + suffix, {shape_.head_dim, shape_.n_tokens, shape_.n_head_kv});
    const auto n_slots = static_cast<size_t>(shape_.n_tokens);
    reduced_.assign(static_cast<size_t>(shape_.n_head_kv), std::vector<float>(n_slots, 0.0F));
    for (int32_t head = 0; head < shape_.n_head; head++) {
        const int32_t head_kv = head / shape_.n_group;
        attention_.push_back(window_attention(part(q, head, shape_.head_dim * shape_.window),
                                              part(k, head_kv, shape_.head_dim * shape_.n_tokens), shape_.head_dim,
                                              shape_.window));
        add_head(stats_, head, attention_.back(), shape_.window, shape_.window - 1);
        if (!scorer_.reduce) continue;
        HeadAttention reduced{
            .weights = attention_.back(), .values = {}, .n_queries = shape_.window, .n_keys = shape_.n_keys};
        if (scorer_.reads.values) {
            const auto v = file.floats("v" + suffix, {shape_.head_dim, shape_.n_tokens, shape_.n_head_kv});
            reduced.values = part(v, head_kv, shape_.head_dim * shape_.n_tokens);
        }
        ScorerInput input = this->input(head_kv);
        input.heads = {};
        scorer_.reduce(input, reduced, reduced_[static_cast<size_t>(head_kv)]);
    }
}

void GoldenLayer::project(const GoldenFile& file, const std::string& suffix) {
    const int32_t n_embd = file.integer("n_embd");
    const auto output = file.floats("w_o" + suffix, {int64_t{shape_.head_dim} * shape_.n_head, n_embd});
    const auto v = file.floats("v" + suffix, {shape_.head_dim, shape_.n_tokens, shape_.n_head_kv});
    for (int32_t head = 0; head < shape_.n_head_kv; head++)
        norms_.push_back(
            mean_output_norms(shape_, output, n_embd, part(v, head, shape_.head_dim * shape_.n_tokens), head));
}

ScorerInput GoldenLayer::input(int32_t head) const {
    return {.head = head,
            .n_group = shape_.n_group,
            .heads = heads_,
            .window = shape_.window,
            .budget = budget,
            .floor = floor};
}

std::vector<std::vector<float>> GoldenLayer::scores() const {
    std::vector<std::vector<float>> result;
    for (int32_t head = 0; head < shape_.n_head_kv; head++) result.push_back(scorer_.score(input(head)));
    return result;
}

std::vector<float> output_norms_of(const GoldenShape& shape, std::span<const float> output, int32_t n_embd,
                                   std::span<const float> values, int32_t head, bool l1) {
    std::vector<float> columns;
    for (int32_t row = 0; row < n_embd; row++)
        columns.append_range(part(part(output, row, shape.head_dim * shape.n_head), head, shape.head_dim));
    return cake::output_norms(values, columns, static_cast<size_t>(shape.head_dim), l1);
}

std::vector<float> mean_output_norms(const GoldenShape& shape, std::span<const float> output, int32_t n_embd,
                                     std::span<const float> values, int32_t head_kv) {
    std::vector<float> mean(values.size() / static_cast<size_t>(shape.head_dim), 0.0F);
    for (int32_t i = 0; i < shape.n_group; i++) {
        const auto norms = output_norms_of(shape, output, n_embd, values, head_kv * shape.n_group + i, true);
        for (size_t j = 0; j < mean.size(); j++) mean[j] += norms[j] / static_cast<float>(shape.n_group);
    }
    return mean;
}

void expect_near(std::span<const float> actual, std::span<const float> expected, const std::string& what) {
    ASSERT_EQ(actual.size(), expected.size()) << what;
    float largest = 0;
    for (const float x : expected) largest = std::max(largest, std::abs(x));
    for (size_t i = 0; i < actual.size(); i++)
        ASSERT_NEAR(actual[i], expected[i], 1e-4F * std::abs(expected[i]) + 1e-6F * largest) << what << " at " << i;
}

void expect_kept(std::span<const int32_t> kept, std::span<const int32_t> mask, std::span<const int32_t> tied,
                 const std::string& what) {
    std::vector<int32_t> ours(mask.size(), 0);
    for (const int32_t index : kept) ours[static_cast<size_t>(index)]++;
    EXPECT_EQ(std::ranges::count(ours, 1), std::ranges::count(mask, 1)) << what;
    for (size_t j = 0; j < mask.size(); j++) {
        if (!tied.empty() && tied[j] != 0) continue;
        ASSERT_EQ(ours[j], mask[j]) << what << ", token " << j;
    }
}

void expect_tied(std::span<const float> scores, std::span<const int32_t> tied, const std::string& what) {
    std::vector<float> marked;
    for (size_t j = 0; j < tied.size(); j++)
        if (tied[j] != 0) marked.push_back(scores[j]);
    if (marked.empty()) return;
    const auto [least, most] = std::ranges::minmax(marked);
    EXPECT_NEAR(least, most, 1e-6F * std::abs(most)) << what;
}

void expect_equal(std::span<const int32_t> actual, std::span<const int32_t> expected, const std::string& what) {
    EXPECT_TRUE(std::ranges::equal(actual, expected))
        << what << ": " << testing::PrintToString(std::vector(actual.begin(), actual.end())) << " instead of "
        << testing::PrintToString(std::vector(expected.begin(), expected.end()));
}

std::vector<std::vector<float>> with_window(std::vector<std::vector<float>> scores, int32_t n_tokens) {
    for (auto& head : scores) head.resize(static_cast<size_t>(n_tokens), std::numeric_limits<float>::infinity());
    return scores;
}

std::vector<std::span<const float>> views(const std::vector<std::vector<float>>& vectors) {
    return {vectors.begin(), vectors.end()};
}

}  // namespace cake::test
