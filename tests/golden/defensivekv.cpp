#include "method/defensivekv.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "golden/golden_layer.hpp"
#include "method/pinned.hpp"
#include "method/scorer.hpp"
#include "method/selection.hpp"

namespace cake::test {

namespace {

/// Scores as the authors have them: pinned keys and the window get the layer's largest score.
std::vector<std::vector<float>> levelled(const GoldenLayer& layer) {
    float largest = 0;
    for (int32_t head = 0; head < layer.shape().n_head_kv; head++)
        largest = std::max(largest, std::ranges::max(unpinned_scores(layer.input(head))));
    auto scores = with_window(layer.scores(), layer.shape().n_tokens);
    for (auto& head : scores) std::ranges::replace_if(head, [](float x) { return x >= kPinnedScore; }, largest);
    return scores;
}

void check_stages(const GoldenFile& file, const GoldenLayer& layer, int32_t number) {
    const auto& shape = layer.shape();
    const auto of_head = [&](const char* name, int32_t head) {
        return part(file.floats(fmt::format("{}.{}", name, number), {shape.n_keys, shape.n_head_kv}), head,
                    shape.n_keys);
    };
    EXPECT_NEAR(window_bias(layer.heads(), shape.window),
                file.floats("window_bias", {file.integer("n_layer")})[static_cast<size_t>(number)], 1e-5);
    const auto scores = layer.scores();
    const auto expected = file.floats(fmt::format("score.{}", number), {shape.n_tokens, shape.n_head_kv});
    const auto levelled_scores = levelled(layer);
    for (int32_t head = 0; head < shape.n_head_kv; head++) {
        const auto& keys = layer.heads()[static_cast<size_t>(head)];
        std::vector<float> mean(static_cast<size_t>(shape.n_keys), 0.0F);
        for (size_t i = 0; i < keys.mean.size(); i++)
            mean[i % mean.size()] += keys.mean[i] / static_cast<float>(shape.n_group);
        expect_near(mean, of_head("mean_attention", head), "mean_attention");
        const auto top = layer.reduced(head).first(mean.size());
        expect_near(top, of_head("max_score", head), "max_score");
        expect_near(defended(top), of_head("defended", head), "defended");
        expect_near(layer.output_norms(head).first(mean.size()), of_head("wo_norm", head), "wo_norm");
        std::vector<int32_t> pinned;
        for (size_t j = 0; j < mean.size(); j++)
            if (scores[static_cast<size_t>(head)][j] >= kPinnedScore) pinned.push_back(static_cast<int32_t>(j));
        expect_kept(
            pinned,
            part(file.integers(fmt::format("pinned.{}", number), {shape.n_keys, shape.n_head_kv}), head, shape.n_keys),
            {}, "pinned");
        EXPECT_EQ(std::ssize(pinned),
                  file.integers(fmt::format("stage1_count.{}", number), {shape.n_head_kv})[static_cast<size_t>(head)]);
        expect_near(levelled_scores[static_cast<size_t>(head)], part(expected, head, shape.n_tokens), "score");
    }
}

}  // namespace

void check_defensivekv(const GoldenFile& file) {
    const int32_t n_layer = file.integer("n_layer");
    const GoldenShape shape(file);
    std::vector<std::vector<float>> all;
    for (int32_t number = 0; number < n_layer; number++) {
        SCOPED_TRACE(testing::Message() << "layer " << number);
        GoldenLayer layer(file, fmt::format(".{}", number), *find_scorer("defensivekv"));
        layer.budget = file.integer("n_kept_layer") / shape.n_head_kv;
        EXPECT_EQ(pin_limit(layer.input(0)), file.integer("stage1_limit"));
        check_stages(file, layer, number);

        const auto scores = with_window(layer.scores(), shape.n_tokens);
        const auto kept = select_model(views(scores), file.integer("n_kept_layer"), 0);
        for (int32_t head = 0; head < shape.n_head_kv; head++) {
            const auto& of_head = scores[static_cast<size_t>(head)];
            expect_kept(select_top(of_head, kept[static_cast<size_t>(head)]),
                        part(file.integers(fmt::format("keep_layer.{}", number), {shape.n_tokens, shape.n_head_kv}),
                             head, shape.n_tokens),
                        {}, "keep_layer");
        }
        all.append_range(scores);
    }
    const auto kept = select_model(views(all), file.integer("n_kept"), 0);
    expect_equal(kept, file.integers("head_kept", {shape.n_head_kv, n_layer}), "head_kept");
    const auto layer_kept = file.integers("layer_kept", {n_layer});
    for (int32_t number = 0; number < n_layer; number++) {
        int32_t n_of_layer = 0;
        for (int32_t head = 0; head < shape.n_head_kv; head++) {
            const auto i = static_cast<size_t>(number * shape.n_head_kv + head);
            n_of_layer += kept[i];
            expect_kept(select_top(all[i], kept[i]),
                        part(file.integers(fmt::format("keep.{}", number), {shape.n_tokens, shape.n_head_kv}), head,
                             shape.n_tokens),
                        {}, "keep");
        }
        EXPECT_EQ(n_of_layer, layer_kept[static_cast<size_t>(number)]);
    }
}

}  // namespace cake::test
