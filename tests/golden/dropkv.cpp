
#include "golden/golden_layer.hpp"
#include "method/pooling.hpp"
#include "method/scorer.hpp"
#include "method/selection.hpp"

namespace cake::test {

void check_dropkv(const GoldenFile& file) {
    const GoldenLayer layer(file, "", *find_scorer("dropkv"));
    const GoldenLayer by_maximum(file, "", *find_scorer("dropkv-max"));
    const auto& shape = layer.shape();
    const int64_t n = shape.n_tokens;
    const int32_t n_kept = file.integer("n_kept");
    const auto p = file.floats("p", {n, shape.window, shape.n_head});
    const auto outputs = file.floats("window_output", {shape.head_dim, shape.window, shape.n_head});
    const auto v = file.floats("v", {shape.head_dim, n, shape.n_head_kv});
    for (int32_t head = 0; head < shape.n_head; head++) {
        const auto weights = layer.attention(head);
        expect_near(weights, part(p, head, shape.n_tokens * shape.window), "p");
        const auto values = part(v, head / shape.n_group, shape.head_dim * shape.n_tokens);
        std::vector<float> output(static_cast<size_t>(shape.head_dim) * static_cast<size_t>(shape.window), 0.0F);
        for (size_t i = 0; i < output.size(); i++) {
            const size_t query = i / static_cast<size_t>(shape.head_dim);
            for (size_t j = 0; j < static_cast<size_t>(n); j++)
                output[i] += weights[query * static_cast<size_t>(n) + j] *
                             values[j * static_cast<size_t>(shape.head_dim) + i % static_cast<size_t>(shape.head_dim)];
        }
        expect_near(output, part(outputs, head, shape.head_dim * shape.window), "window_output");
    }

    const auto kept = select_heads(views(with_window(layer.scores(), shape.n_tokens)), n_kept, shape.window, {});
    const auto kept_max =
        select_heads(views(with_window(by_maximum.scores(), shape.n_tokens)), n_kept, shape.window, {});
    for (int32_t head = 0; head < shape.n_head_kv; head++) {
        const auto i = static_cast<size_t>(head);
        const auto of_head = [&](const char* name) {
            return part(file.integers(name, {n, shape.n_head_kv}), head, shape.n_tokens);
        };
        const auto raw = layer.reduced(head);
        expect_near(raw, part(file.floats("raw_score", {n, shape.n_head_kv}), head, shape.n_tokens), "raw_score");
        std::vector<float> pooled(raw.size());
        average_pool(raw, pooled, file.integer("kernel"));
        expect_near(pooled, part(file.floats("score", {n, shape.n_head_kv}), head, shape.n_tokens), "score");
        max_pool(raw, pooled, file.integer("kernel"));
        expect_near(pooled, part(file.floats("score_max", {n, shape.n_head_kv}), head, shape.n_tokens), "score_max");
        expect_kept(kept[i], of_head("keep"), {}, "keep");
        expect_equal(kept[i], part(file.integers("kept", {n_kept, shape.n_head_kv}), head, n_kept), "kept");
        expect_tied(pooled, of_head("tied_max"), "tied_max");
        expect_kept(kept_max[i], of_head("keep_max"), of_head("tied_max"), "keep_max");
    }
}

}  // namespace cake::test
