#include "method/rkv.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "golden/golden_layer.hpp"
#include "method/pinned.hpp"
#include "method/pooling.hpp"
#include "method/selection.hpp"

namespace cake::test {

void check_rkv(const GoldenFile& file) {
    const GoldenShape shape(file);
    const auto q = file.floats("q_window", {shape.head_dim, shape.window, shape.n_head});
    const auto k = file.floats("k", {shape.head_dim, shape.n_tokens, shape.n_head_kv});
    const int32_t budget = file.integer("budget");
    const auto n_sink = static_cast<size_t>(file.integer("n_sink"));
    const auto dim = static_cast<size_t>(shape.head_dim);
    int32_t n_without_similar = 0;
    for (int32_t head = 0; head < shape.n_head_kv; head++) {
        SCOPED_TRACE(testing::Message() << "head " << head);
        const auto outside = [&](const char* name) {
            return part(file.floats(name, {shape.n_keys, shape.n_head_kv}), head, shape.n_keys);
        };
        const auto keys = part(k, head, shape.head_dim * shape.n_tokens);
        const auto attention = group_attention(part(q, head, shape.head_dim * shape.window * shape.n_group), keys, dim,
                                               static_cast<size_t>(shape.window), static_cast<size_t>(shape.n_keys));
        expect_near(attention, outside("attention"), "attention");
        std::vector<float> importance(attention.size());
        max_pool(attention, importance, file.integer("kernel"));
        expect_near(importance, outside("importance"), "importance");
        constexpr float kSimilar = 0.5F;
        const auto redundant = redundancy(keys, dim, kSimilar);
        expect_near(redundant.scores,
                    part(file.floats("redundancy", {shape.n_tokens, shape.n_head_kv}), head, shape.n_tokens),
                    "redundancy");
        expect_equal(redundant.last_similar,
                     part(file.integers("last_similar", {shape.n_tokens, shape.n_head_kv}), head, shape.n_tokens),
                     "last_similar");
        n_without_similar += static_cast<int32_t>(std::ranges::count(redundant.last_similar, 0));
        auto scores = rkv_scores(importance, redundant.scores, file.real("lambda"));
        expect_near(scores, outside("score"), "score");
        std::fill_n(scores.begin(), n_sink, kPinnedScore);
        const auto all = with_window({scores}, shape.n_tokens);
        const auto kept = select_top(all[0], budget);
        expect_kept(kept, part(file.integers("keep", {shape.n_tokens, shape.n_head_kv}), head, shape.n_tokens), {},
                    "keep");
        expect_equal(kept, part(file.integers("kept", {budget, shape.n_head_kv}), head, budget), "kept");
    }
    EXPECT_GE(n_without_similar, file.integer("rows_without_similar"));
}

}  // namespace cake::test
