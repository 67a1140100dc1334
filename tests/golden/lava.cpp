#include "method/lava.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "golden/golden_layer.hpp"
#include "method/allocator.hpp"
#include "method/cascade.hpp"
#include "method/scorer.hpp"
#include "method/selection.hpp"

namespace cake::test {

namespace {

std::vector<std::vector<float>> scores_of(const GoldenFile& file, const GoldenLayer& layer, int32_t number) {
    const auto& shape = layer.shape();
    const bool maximum = file.text("pooling") == "max";
    std::vector<std::vector<float>> scores;
    for (int32_t head = 0; head < shape.n_head_kv; head++) {
        auto input = layer.input(head);
        input.pool_kernel = file.integer("kernel");
        scores.push_back(lava_score_with(input, maximum ? max_pool : average_pool));
        expect_near(
            scores.back(),
            part(file.floats(fmt::format("score.{}", number), {shape.n_keys, shape.n_head_kv}), head, shape.n_keys),
            "score");
        const auto& values = layer.heads()[static_cast<size_t>(head)].values;
        const auto n_values = static_cast<size_t>(shape.head_dim) * static_cast<size_t>(shape.n_keys);
        const float norm = largest_norm(values.first(n_values), static_cast<size_t>(shape.n_keys));
        const float expected =
            file.floats(fmt::format("value_norm.{}", number), {shape.n_head_kv})[static_cast<size_t>(head)];
        EXPECT_NEAR(norm, expected, 1e-4 * expected);
    }
    return scores;
}

/// How many of the layer's best `n` scores lie in each head.
std::vector<int32_t> counts(const std::vector<std::vector<float>>& scores, int32_t n) {
    return select_model(views(scores), n, 0);
}

/// The published code's own floor: that of the whole model's capacity, with the window (SUCCESSORS, "do not copy"). It
/// is computed here only to check the file's numbers.
int32_t as_run(const GoldenFile& file, int32_t count) {
    const double floor = file.real("floor");
    return static_cast<int32_t>(
        std::nearbyint(count * (1 - floor) + static_cast<int>(file.integer("capacity") * floor)));
}

}  // namespace

void check_lava(const GoldenFile& file) {
    const int32_t n_layer = file.integer("n_layer");
    const GoldenShape shape(file);
    const int32_t capacity = file.integer("capacity");
    const auto entropy = file.floats("entropy", {n_layer});
    const auto stages = file.integers("stage_budgets", {n_layer, n_layer});
    const int64_t total = int64_t{capacity - shape.window} * n_layer;
    std::vector<std::vector<std::vector<float>>> scores;
    constexpr int32_t kNoCap = std::numeric_limits<int32_t>::max();  // the authors do not cap a layer at what it has
    Cascade cascade;
    std::vector<int32_t> budgets;
    for (int32_t number = 0; number < n_layer; number++) {
        SCOPED_TRACE(testing::Message() << "layer " << number);
        const GoldenLayer layer(file, fmt::format(".{}", number), *find_scorer("lava"));
        scores.push_back(scores_of(file, layer, number));
        const double ours = score_entropy(views(scores.back()));
        EXPECT_NEAR(ours, entropy[static_cast<size_t>(number)], 1e-4);
        budgets.assign_range(cascade.join(ours, kNoCap, total));
        std::vector<int32_t> stage(budgets);
        stage.resize(static_cast<size_t>(n_layer), 0);
        expect_equal(stage, part(stages, number, n_layer), "stage_budgets");
    }
    const auto rule = find_allocator("entropy")->heads;
    for (int32_t number = 0; number < n_layer; number++) {
        SCOPED_TRACE(testing::Message() << "layer " << number);
        const auto& of_layer = scores[static_cast<size_t>(number)];
        const int32_t budget = budgets[static_cast<size_t>(number)];
        const auto n = counts(of_layer, budget * shape.n_head_kv);
        expect_equal(n, part(file.integers("head_count", {shape.n_head_kv, n_layer}), number, shape.n_head_kv),
                     "head_count");
        const auto kept =
            select_heads(views(with_window(of_layer, shape.n_tokens)), budget + shape.window, shape.window, rule);
        const auto of_head = [&](const char* name, int32_t head) {
            return part(file.integers(fmt::format("{}.{}", name, number), {shape.n_tokens, shape.n_head_kv}), head,
                        shape.n_tokens);
        };
        for (int32_t head = 0; head < shape.n_head_kv; head++) {
            const auto i = static_cast<size_t>(head);
            EXPECT_EQ(std::ssize(kept[i]) - shape.window,
                      part(file.integers("head_capacity", {shape.n_head_kv, n_layer}), number, shape.n_head_kv)[i]);
            const auto scores_of_head = with_window({of_layer[i]}, shape.n_tokens);
            expect_tied(scores_of_head[0], of_head("tied", head), "tied");
            expect_tied(scores_of_head[0], of_head("tied_as_run", head), "tied_as_run");
            expect_kept(kept[i], of_head("keep", head), of_head("tied", head), "keep");
            const int32_t n_as_run = as_run(file, n[i]);
            EXPECT_EQ(n_as_run, part(file.integers("head_capacity_as_run", {shape.n_head_kv, n_layer}), number,
                                     shape.n_head_kv)[i]);
            expect_kept(select_top(scores_of_head[0], n_as_run + shape.window), of_head("keep_as_run", head),
                        of_head("tied_as_run", head), "keep_as_run");
        }
    }
}

}  // namespace cake::test
