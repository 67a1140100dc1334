// Compares our results with those of the authors' code for the same queries and keys. The case files are in
// CAKE_GOLDEN_DIR, or else in this folder.

#include <ggml-cpp.h>
#include <gguf.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <format>
#include <optional>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "method/attention_stats.hpp"
#include "method/preference.hpp"
#include "method/scorer.hpp"
#include "method/selection.hpp"

namespace cake {
namespace {

namespace fs = std::filesystem;

fs::path folder() {
    const char* named = std::getenv("CAKE_GOLDEN_DIR");
    return named != nullptr && *named != '\0' ? fs::path(named) : fs::path(CAKE_GOLDEN_SOURCE_DIR);
}

std::vector<fs::path> case_files() {
    std::vector<fs::path> files;
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(folder(), error)) {
        if (entry.path().extension() == ".gguf") files.push_back(entry.path());
    }
    std::ranges::sort(files);
    return files;
}

/// One case file. Missing content throws an exception, which fails the test.
class GoldenFile {
  public:
    explicit GoldenFile(const fs::path& path) {
        ggml_context* context = nullptr;
        file_.reset(gguf_init_from_file(path.c_str(), {.no_alloc = false, .ctx = &context}));
        context_.reset(context);
        if (!file_ || !context_) throw std::runtime_error(std::format("{} is not a GGUF file", path.string()));
    }

    int32_t integer(const std::string& name) const {
        const auto key = find(name, GGUF_TYPE_INT32);
        return gguf_get_val_i32(file_.get(), key);
    }
    float real(const std::string& name) const {
        const auto key = find(name, GGUF_TYPE_FLOAT32);
        return gguf_get_val_f32(file_.get(), key);
    }

    /// Returns a tensor. It must have the given shape: fastest dimension first, -1 for any length.
    template <typename T>
    std::span<const T> tensor(const std::string& name, const std::vector<int64_t>& shape) const {
        const ggml_tensor* found = ggml_get_tensor(context_.get(), name.c_str());
        if (found == nullptr) throw std::runtime_error("there is no tensor " + name);
        if (found->type != (std::is_same_v<T, float> ? GGML_TYPE_F32 : GGML_TYPE_I32))
            throw std::runtime_error("another type is stored in " + name);
        for (size_t i = 0; i < GGML_MAX_DIMS; i++) {
            const int64_t expected = i < shape.size() ? shape[i] : 1;
            if (expected >= 0 && found->ne[i] != expected)
                throw std::runtime_error("another shape is stored in " + name);
        }
        return {static_cast<const T*>(found->data), static_cast<size_t>(ggml_nelements(found))};
    }

  private:
    int64_t find(const std::string& name, gguf_type type) const {
        const int64_t key = gguf_find_key(file_.get(), ("case." + name).c_str());
        if (key < 0) throw std::runtime_error("there is no key case." + name);
        if (gguf_get_kv_type(file_.get(), key) != type)
            throw std::runtime_error("another type is stored in case." + name);
        return key;
    }

    gguf_context_ptr file_;
    ggml_context_ptr context_;
};

class Golden : public testing::TestWithParam<fs::path> {
  protected:
    AttentionStats analyse(int32_t layer) const {
        const auto q = file.tensor<float>(std::format("q_window.{}", layer), {head_dim, window, n_head});
        const auto k = file.tensor<float>(std::format("k.{}", layer), {head_dim, n_tokens, n_head_kv});
        const auto q_size = static_cast<size_t>(head_dim * window);
        const auto k_size = static_cast<size_t>(head_dim * n_tokens);
        const std::vector<int64_t> keys_by_head(static_cast<size_t>(n_head_kv), n_keys);
        AttentionStats stats(n_head, keys_by_head);
        for (int32_t head = 0; head < n_head; head++) {
            const auto head_kv = static_cast<size_t>(head / (n_head / n_head_kv));
            const auto attention = window_attention(q.subspan(static_cast<size_t>(head) * q_size, q_size),
                                                    k.subspan(head_kv * k_size, k_size), head_dim, window);
            add_head(stats, head, attention, window, window - 1);
        }
        return stats;
    }

    /// Scores of all keys, [n_keys, n_head_kv].
    std::vector<float> indicator(const AttentionStats& stats) const {
        const std::vector<int32_t> positions(static_cast<size_t>(n_keys));
        std::vector<HeadKeys> heads;
        for (const auto& head : stats.heads)
            heads.push_back({.positions = positions, .mean = head.mean, .variance = head.variance});
        std::vector<float> scores;
        for (int32_t head = 0; head < n_head_kv; head++) {
            scores.append_range(find_scorer("cake")->score(
                {.head = head, .n_group = stats.n_group, .heads = heads, .window = window, .gamma = gamma}));
        }
        return scores;
    }

    std::span<const float> per_layer(const char* name) const { return file.tensor<float>(name, {n_layer}); }

    const GoldenFile file{GetParam()};
    const int32_t window = file.integer("window");
    const int32_t n_layer = file.integer("n_layer");
    const int32_t n_head = file.integer("n_head");
    const int32_t n_head_kv = file.integer("n_head_kv");
    const int32_t head_dim = file.integer("head_dim");
    const int32_t n_tokens = file.integer("n_tokens");
    const int32_t n_keys = n_tokens - window;
    const float gamma = file.real("gamma");
    const double tau1 = file.real("tau1");
    const double tau2 = file.real("tau2");
};

TEST_P(Golden, DispersionShiftAndPreferenceAreTheAuthors) {
    const auto dispersion = per_layer("dispersion");
    const auto shift = per_layer("shift");
    const auto preferred = per_layer("preference");
    ASSERT_GT(n_layer, 0);
    for (int32_t layer = 0; layer < n_layer; layer++) {
        SCOPED_TRACE(testing::Message() << "layer " << layer);
        const auto stats = analyse(layer);
        const auto l = static_cast<size_t>(layer);
        EXPECT_NEAR(stats.dispersion, dispersion[l], 1e-4 * std::abs(dispersion[l]));
        EXPECT_NEAR(stats.shift, shift[l], 1e-4 * std::abs(shift[l]));
        EXPECT_NEAR(preference(stats.dispersion, stats.shift, tau1, tau2), preferred[l], 1e-3 * std::abs(preferred[l]));
    }
}

TEST_P(Golden, IndicatorsAreTheAuthors) {
    for (int32_t layer = 0; layer < n_layer; layer++) {
        SCOPED_TRACE(testing::Message() << "layer " << layer);
        const auto expected = file.tensor<float>(std::format("indicator.{}", layer), {n_keys, n_head_kv});
        const auto actual = indicator(analyse(layer));
        ASSERT_EQ(actual.size(), expected.size());
        const float tolerance = 1e-5F * std::ranges::max(expected);
        for (size_t i = 0; i < actual.size(); i++) ASSERT_NEAR(actual[i], expected[i], tolerance) << "at " << i;
    }
}

TEST_P(Golden, TheStagesKeepTheTokensThatTheAuthorsKeep) {
    const auto sizes = file.tensor<int32_t>("stage_sizes", {n_layer, n_layer});  // [layer, stage], window included
    for (int32_t layer = 0; layer < n_layer; layer++) {
        const auto name = std::format("kept.{}", layer);
        const auto expected = file.tensor<int32_t>(name, {-1, n_head_kv});
        const auto theirs = file.tensor<float>(std::format("indicator.{}", layer), {n_keys, n_head_kv});
        const auto n_kept = expected.size() / static_cast<size_t>(n_head_kv);
        const auto scores = indicator(analyse(layer));
        for (int32_t head = 0; head < n_head_kv; head++) {
            SCOPED_TRACE(testing::Message() << "layer " << layer << " head " << head);
            const auto base = static_cast<size_t>(head) * static_cast<size_t>(n_keys);
            std::vector<int32_t> kept(static_cast<size_t>(n_keys));
            for (int32_t i = 0; i < n_keys; i++) kept[static_cast<size_t>(i)] = i;
            for (int32_t stage = layer; stage < n_layer; stage++) {
                const int32_t size = sizes[static_cast<size_t>(stage * n_layer + layer)];
                std::vector<float> kept_scores;
                for (const int32_t index : kept) kept_scores.push_back(scores[base + static_cast<size_t>(index)]);
                std::vector<int32_t> still;
                for (const int32_t i : select_top(kept_scores, size - window))
                    still.push_back(kept[static_cast<size_t>(i)]);
                kept = std::move(still);
            }
            std::set<int32_t> ours(kept.begin(), kept.end());
            for (int32_t i = n_keys; i < n_tokens; i++) ours.insert(i);
            const auto of_head = expected.subspan(static_cast<size_t>(head) * n_kept, n_kept);
            const std::set<int32_t> authors(of_head.begin(), of_head.end());
            ASSERT_EQ(authors.size(), n_kept) << "a token is listed twice";
            ASSERT_EQ(ours.size(), authors.size());

            // The sets may differ only in tokens that have the same score in the authors' code.
            std::optional<float> tie;
            std::vector<int32_t> differing;
            std::ranges::set_symmetric_difference(ours, authors, std::back_inserter(differing));
            for (const int32_t index : differing) {
                ASSERT_TRUE(index >= 0 && index < n_keys) << "token " << index;
                const float score = theirs[base + static_cast<size_t>(index)];
                EXPECT_EQ(score, tie.value_or(score)) << "token " << index;
                tie = score;
            }
        }
    }
}

TEST(GoldenFolder, HoldsCases) {
    EXPECT_FALSE(case_files().empty()) << "no *.gguf in " << folder();
}

INSTANTIATE_TEST_SUITE_P(Cases, Golden, testing::ValuesIn(case_files()), [](const auto& instance) {
    std::string name = instance.param.stem().string();
    std::ranges::replace_if(name, [](unsigned char c) { return std::isalnum(c) == 0; }, '_');
    return name;
});

}  // namespace
}  // namespace cake
