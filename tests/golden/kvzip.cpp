#include "method/kvzip.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "golden/golden_layer.hpp"
#include "method/attention_stats.hpp"
#include "method/pinned.hpp"
#include "method/selection.hpp"

namespace cake::test {

namespace {

struct Case {
    explicit Case(const GoldenFile& golden)
        : file(golden), shape(golden), chunks(golden.integers("chunks", {2, golden.integer("n_chunk")})) {}

    /// Importance of all tokens of a layer by KV head: [n_tokens] each. The sinks have the score 1 here, as in the
    /// file.
    std::vector<std::vector<float>> importance(int32_t layer, bool plus) const {
        const auto n_sink = static_cast<size_t>(file.integer("n_sink"));
        const auto v = file.floats(fmt::format("v.{}", layer), {shape.head_dim, shape.n_tokens, shape.n_head_kv});
        const auto output =
            file.floats(fmt::format("w_o.{}", layer), {int64_t{shape.head_dim} * shape.n_head, file.integer("n_embd")});
        std::vector<std::vector<float>> result(static_cast<size_t>(shape.n_head_kv),
                                               std::vector<float>(static_cast<size_t>(shape.n_tokens), 0.0F));
        for (int32_t head = 0; head < shape.n_head; head++) {
            const int32_t head_kv = head / shape.n_group;
            auto& of_head = result[static_cast<size_t>(head_kv)];
            std::vector<float> norms;
            if (plus) {
                norms = output_norms_of(shape, output, file.integer("n_embd"),
                                        part(v, head_kv, shape.head_dim * shape.n_tokens), head, false);
            }
            for (int32_t chunk = 0; chunk < file.integer("n_chunk"); chunk++)
                replay(layer, chunk, head, norms, of_head);
        }
        for (auto& head : result) std::fill_n(head.begin(), n_sink, 1.0F);
        return result;
    }

    void replay(int32_t layer, int32_t chunk, int32_t head, std::span<const float> norms,
                std::span<float> result) const {
        const int32_t begin = chunks[static_cast<size_t>(2 * chunk)];
        const int32_t end = chunks[static_cast<size_t>(2 * chunk + 1)];
        const int32_t head_kv = head / shape.n_group;
        const auto name = [&](const char* tensor) { return fmt::format("{}.{}.{}", tensor, layer, chunk); };
        const auto queries = file.floats(name("q_replay"), {shape.head_dim, -1, shape.n_head});
        const auto n_replay = static_cast<int32_t>(queries.size()) / (shape.head_dim * shape.n_head);
        const auto own = file.floats(name("k_replay"), {shape.head_dim, n_replay, shape.n_head_kv});
        const auto k = part(file.floats(fmt::format("k.{}", layer), {shape.head_dim, shape.n_tokens, shape.n_head_kv}),
                            head_kv, shape.head_dim * shape.n_tokens);
        const auto dim = static_cast<size_t>(shape.head_dim);
        const auto n_sink = static_cast<size_t>(std::min(file.integer("n_sink"), begin));
        std::vector<float> keys(k.begin(), k.begin() + static_cast<ptrdiff_t>(n_sink * dim));
        keys.append_range(k.subspan(static_cast<size_t>(begin) * dim, static_cast<size_t>(end - begin) * dim));
        keys.append_range(part(own, head_kv, shape.head_dim * n_replay));
        const auto weights =
            window_attention(part(queries, head, shape.head_dim * n_replay), keys, shape.head_dim, n_replay);
        std::vector<float> hidden_norms;
        if (!norms.empty()) {
            const int32_t n_embd = file.integer("n_embd");
            const auto hidden = file.floats(name("h_replay"), {n_embd, n_replay});
            for (int32_t i = 0; i < n_replay; i++) {
                double squares = 0;
                for (const float x : part(hidden, i, n_embd)) squares += static_cast<double>(x) * x;
                hidden_norms.push_back(static_cast<float>(std::sqrt(squares)));
            }
        }
        const auto of_chunk = [&](auto all) {
            return all.subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
        };
        raise_to_replay(of_chunk(result), weights, static_cast<size_t>(n_replay), n_sink,
                        norms.empty() ? norms : of_chunk(norms), hidden_norms);
    }

    const GoldenFile& file;
    GoldenShape shape;
    std::span<const int32_t> chunks;
};

void check(const Case& c, bool plus) {
    const auto& shape = c.shape;
    const int32_t n_layer = c.file.integer("n_layer");
    const std::string suffix = plus ? "_plus" : "";
    const auto n_sink = static_cast<size_t>(c.file.integer("n_sink"));
    const auto name = [&](const char* tensor, int32_t layer) { return fmt::format("{}{}.{}", tensor, suffix, layer); };
    const auto mask = [&](const char* tensor, int32_t layer, int32_t head) {
        return part(c.file.integers(name(tensor, layer), {shape.n_tokens, shape.n_head_kv}), head, shape.n_tokens);
    };
    std::vector<std::vector<float>> all;
    for (int32_t layer = 0; layer < n_layer; layer++) {
        SCOPED_TRACE(testing::Message() << "layer " << layer << suffix);
        auto scores = c.importance(layer, plus);
        const auto expected = c.file.floats(name("score", layer), {shape.n_tokens, shape.n_head_kv});
        for (int32_t head = 0; head < shape.n_head_kv; head++) {
            auto& of_head = scores[static_cast<size_t>(head)];
            expect_near(of_head, part(expected, head, shape.n_tokens), "score");
            std::fill_n(of_head.begin(), n_sink, kPinnedScore);
        }
        const int64_t n_kept_layer = int64_t{shape.n_tokens} * shape.n_head_kv - c.file.integer("n_pruned_layer");
        const auto kept = select_model(views(scores), n_kept_layer, 0);
        for (int32_t head = 0; head < shape.n_head_kv; head++) {
            const auto i = static_cast<size_t>(head);
            expect_kept(select_top(scores[i], kept[i]), mask("keep_layer", layer, head), {}, "keep_layer");
        }
        all.append_range(scores);
    }
    const int64_t n_kept = int64_t{n_layer} * shape.n_tokens * shape.n_head_kv - c.file.integer("n_pruned");
    const auto kept = select_model(views(all), n_kept, 0);
    for (size_t i = 0; i < all.size(); i++) {
        const auto layer = static_cast<int32_t>(i) / shape.n_head_kv;
        expect_kept(select_top(all[i], kept[i]), mask("keep", layer, static_cast<int32_t>(i) % shape.n_head_kv), {},
                    "keep");
    }
}

}  // namespace

void check_kvzip(const GoldenFile& file) {
    const Case c(file);
    check(c, false);
    check(c, true);
}

}  // namespace cake::test
