#include "method/criticalkv.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "golden/golden_layer.hpp"
#include "method/published_scorers.hpp"
#include "method/scorer.hpp"
#include "method/selection.hpp"

namespace cake::test {

namespace {

const Scorer kSmoothed = {.name = "smoothed",
                          .reads = {.window = true, .keys = true, .values = true, .output_norms = true},
                          .score = smoothed_attention_score};

void check_keydiff_and_tova(const GoldenFile& file, const GoldenLayer& layer) {
    const auto& shape = layer.shape();
    const auto expected = file.floats("score_keydiff", {shape.n_tokens, shape.n_head_kv});
    const auto attended = file.floats("score_tova", {shape.n_tokens});
    for (int32_t head = 0; head < shape.n_head_kv; head++) {
        const auto n_keys = static_cast<size_t>(shape.n_keys);
        expect_near(keydiff_score(layer.input(head)), part(expected, head, shape.n_tokens).first(n_keys),
                    "score_keydiff");
        auto summed = tova_score(layer.input(head));
        for (float& x : summed) x /= static_cast<float>(shape.n_head);
        expect_near(summed, attended.first(n_keys), "score_tova");
    }
    // The window's own scores, which the engine never computes because it always keeps the window.
    std::vector<float> last(static_cast<size_t>(shape.n_tokens), 0.0F);
    for (int32_t head = 0; head < shape.n_head; head++) {
        const auto row = layer.attention(head).last(last.size());
        for (size_t j = 0; j < last.size(); j++) last[j] += row[j] / static_cast<float>(shape.n_head);
    }
    last.back() = 0;
    last.back() = std::ranges::max(last) + 1;
    expect_near(last, attended, "score_tova");
    for (int32_t head = 0; head < shape.n_head_kv; head++) {
        const std::vector<int32_t> positions(static_cast<size_t>(shape.n_tokens));
        const HeadKeys all{.positions = positions, .keys = layer.heads()[static_cast<size_t>(head)].keys};
        expect_near(keydiff_score({.heads = {&all, 1}}), part(expected, head, shape.n_tokens), "score_keydiff");
    }
}

}  // namespace

void check_criticalkv(const GoldenFile& file) {
    const GoldenLayer layer(file, "", kSmoothed);
    const auto& shape = layer.shape();
    const int32_t n_kept = file.integer("n_kept");
    const int32_t n_safe = file.integer("n_safe");
    const auto expected = file.floats("score", {shape.n_tokens, shape.n_head_kv});
    auto scores = with_window(layer.scores(), shape.n_tokens);
    std::vector<std::vector<float>> critical;
    std::vector<std::vector<float>> critical_safe;
    for (int32_t head = 0; head < shape.n_head_kv; head++) {
        auto& of_head = scores[static_cast<size_t>(head)];
        const auto norms = layer.output_norms(head);
        expect_near(norms, part(file.floats("wo_norm", {shape.n_tokens, shape.n_head_kv}), head, shape.n_tokens),
                    "wo_norm");
        critical.push_back(reassigned(of_head, critical_order(of_head, norms, 0)));
        critical_safe.push_back(reassigned(of_head, critical_order(of_head, norms, n_safe)));
        const auto outside = std::span(of_head).first(static_cast<size_t>(shape.n_keys));
        expect_near(outside, part(expected, head, shape.n_tokens).first(outside.size()), "score");
        // In the file, the window has the largest score of the layer plus 1.
        const auto window = part(expected, head, shape.n_tokens).subspan(outside.size());
        for (const float score : window) EXPECT_EQ(score, window.front());
        EXPECT_GT(window.front(), 1.0F);
    }
    check_keydiff_and_tova(file, layer);

    const auto mask = [&](const char* name, int32_t head) {
        return part(file.integers(name, {shape.n_tokens, shape.n_head_kv}), head, shape.n_tokens);
    };
    const HeadRule uniform{};
    const auto kept = select_heads(views(scores), n_kept, shape.window, uniform);
    const auto kept_critical = select_heads(views(critical), n_kept, shape.window, uniform);
    const int64_t total = int64_t{n_kept} * shape.n_head_kv;
    const auto budgets = select_model(views(scores), total, n_safe);
    expect_equal(budgets, file.integers("head_budget", {shape.n_head_kv}), "head_budget");
    EXPECT_EQ(select_model(views(critical_safe), total, n_safe), budgets);
    for (int32_t head = 0; head < shape.n_head_kv; head++) {
        const auto i = static_cast<size_t>(head);
        expect_kept(kept[i], mask("keep_snapkv", head), {}, "keep_snapkv");
        expect_kept(kept_critical[i], mask("keep_criticalkv", head), {}, "keep_criticalkv");
        expect_kept(select_top(scores[i], budgets[i]), mask("keep_adakv", head), {}, "keep_adakv");
        expect_kept(select_top(critical_safe[i], budgets[i]), mask("keep_criticaladakv", head), {},
                    "keep_criticaladakv");
    }
}

}  // namespace cake::test
