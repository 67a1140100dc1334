// Compares widely used models with llama.cpp on a real text, if they have been fetched.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>

#include "cake/engine.hpp"
#include "engine/sequence_parts.hpp"
#include "parity/comparison.hpp"
#include "support/llama_reference.hpp"
#include "support/real_models.hpp"
#include "support/test_models.hpp"

namespace cake {
namespace {

using test::LlamaReader;

/// Value of an environment variable, or `otherwise` if it is not set. Such variables are used to make the figures of
/// docs/models.md.
std::string variable(const char* name, const std::string& otherwise) {
    const char* value = std::getenv(name);
    return value != nullptr && *value != '\0' ? value : otherwise;
}

/// The first tokens of a real text.
std::vector<Token> text_of(const Engine& engine, size_t n) {
    std::ifstream file(variable("CAKE_PARITY_TEXT", std::string(CAKE_MODELS) + "/document.txt"));
    const std::string bytes{std::istreambuf_iterator<char>(file), {}};
    auto tokens = *engine.tokenize(bytes.substr(0, 12 * n));
    if (tokens.size() < n) throw std::runtime_error(fmt::format("the text has less than {} tokens", n));
    tokens.resize(n);
    return tokens;
}

class RealModel : public testing::TestWithParam<std::string> {
  protected:
    void SetUp() override {
        const auto model = test::real_model(GetParam());
        if (!model) GTEST_SKIP() << model.error();
        path = *model;
    }

    std::string path;
};

/// A full cache that prefills a text in pieces.
class OurReader {
  public:
    OurReader(const std::string& path, size_t n_ctx, const EngineOptions& options, const std::string& cache_type)
        : engine_(*Engine::load(path, options)),
          sequence_(test::start(engine_, {.policy = "full",
                                          .cache_type_k = cache_type,
                                          .cache_type_v = cache_type,
                                          .max_tokens = static_cast<int64_t>(n_ctx)})) {}

    std::span<const float> read(std::span<const Token> tokens) {
        const auto read = sequence_.append(tokens, {.all_logits = true});
        if (!read) throw std::runtime_error(read.error().message);
        return sequence_.logits();
    }
    const Engine& engine() const { return engine_; }

  private:
    Engine engine_;
    Sequence sequence_;
};

/// Distance between logits and reference logits over all tokens so far.
struct Distance {
    double sum_kl = 0;
    int64_t n_same = 0;  // number of tokens for which both have the same most likely token
    int64_t n = 0;

    void add(std::span<const float> reference, std::span<const float> other, size_t n_vocab) {
        for (size_t begin = 0; begin < reference.size(); begin += n_vocab, n++) {
            const auto a = reference.subspan(begin, n_vocab);
            const auto b = other.subspan(begin, n_vocab);
            sum_kl += test::kl(a, b);
            n_same += std::ranges::max_element(a) - a.begin() == std::ranges::max_element(b) - b.begin() ? 1 : 0;
        }
    }
    double kl() const { return sum_kl / static_cast<double>(n); }
    double same() const { return static_cast<double>(n_same) / static_cast<double>(n); }
    std::string text() const { return fmt::format("{:.2g}, {:.2f} %", kl(), 100 * same()); }
};

/// Uses 500 tokens by default, to save time. The figures of docs/models.md are for 2,000 tokens.
TEST_P(RealModel, GivesLlamaCppsLogits) {
    const size_t n_tokens = std::stoul(variable("CAKE_PARITY_TOKENS", "500"));
    constexpr size_t kPiece = 256;
    OurReader by_ggml(path, n_tokens, {.threads = 2, .ggml_attention = true}, "f16");
    OurReader ours(path, n_tokens, {.threads = 2}, "f32");
    OurReader ours_half(path, n_tokens, {.threads = 2}, "f16");
    LlamaReader half(path, n_tokens, {.cache_type = GGML_TYPE_F16});
    LlamaReader single(path, n_tokens, {.cache_type = GGML_TYPE_F32});
    const auto tokens = text_of(ours.engine(), n_tokens);
    const auto n_vocab = static_cast<size_t>(ours.engine().info().n_vocab);

    Distance ggmls;
    Distance kernels;
    Distance kernels_half;
    Distance llamas;
    for (size_t begin = 0; begin < n_tokens; begin += kPiece) {
        const auto piece = std::span(tokens).subspan(begin, std::min(kPiece, n_tokens - begin));
        const auto reference_half = half.read(piece);
        ggmls.add(reference_half, by_ggml.read(piece), n_vocab);
        const auto reference = single.read(piece);
        llamas.add(reference, reference_half, n_vocab);
        kernels.add(reference, ours.read(piece), n_vocab);
        kernels_half.add(reference, ours_half.read(piece), n_vocab);
    }
    std::cout << fmt::format(
        "{} over {} tokens, mean KL divergence and likeliest tokens that are the same:\n"
        "  ggml's attention, against llama.cpp: {}\n"
        "  our kernels, f32 K/V, against llama.cpp with f32 K/V: {}\n"
        "  our kernels, f16 K/V, against llama.cpp with f32 K/V: {}\n"
        "  llama.cpp with f16 K/V, against itself with f32 K/V: {}\n",
        GetParam(), n_tokens, ggmls.text(), kernels.text(), kernels_half.text(), llamas.text());
    // Once a sliding window has dropped tokens, llama.cpp's cache holds and sums them in a different order.
    const int32_t window = ours.engine().info().n_swa;
    const bool slides = window > 0 && static_cast<size_t>(window) < n_tokens;
    EXPECT_LT(ggmls.kl(), slides ? std::max(1e-4, llamas.kl()) : 1e-4);
    EXPECT_LT(kernels.kl(), std::max(1e-4, llamas.kl()));
    EXPECT_LT(kernels_half.kl(), std::max(1e-4, 1.25 * llamas.kl()));
}

/// The hidden states of a long segment are stored in bf16. Those of Gemma 3 exceed the range of f16.
TEST(RealHiddenStates, OfGemmaAreReadWholeAsInSegments) {
    const auto model = test::real_model("gemma3-270m");
    if (!model) GTEST_SKIP() << model.error();
    const auto engine = Engine::load(*model, {.threads = 2});
    ASSERT_TRUE(engine) << engine.error().message;
    const size_t n_tokens = std::stoul(variable("CAKE_PARITY_TOKENS", "2000"));
    const auto tokens = text_of(*engine, n_tokens);
    constexpr size_t kLast = 64;
    const auto logits = [&](size_t most_f32_bytes, int64_t segment) {
        auto state = make_sequence(EngineAccess::state(*engine),
                                   {.policy = "full", .max_tokens = static_cast<int64_t>(n_tokens)});
        if (!state) throw std::runtime_error(state.error().message);
        (*state)->max_hidden_f32_bytes = most_f32_bytes;
        Sequence sequence(std::move(*state));
        const auto read = sequence.append(std::span(tokens).first(n_tokens - kLast), {.segment = segment});
        if (!read) throw std::runtime_error(read.error().message);
        if (const auto last = sequence.append(std::span(tokens).last(kLast), {.all_logits = true}); !last)
            throw std::runtime_error(last.error().message);
        return std::vector<float>(sequence.logits().begin(), sequence.logits().end());
    };
    const auto n_vocab = static_cast<size_t>(engine->info().n_vocab);
    const size_t all_f32 = size_t{1} << 40U;
    const auto in_segments = logits(all_f32, 500);
    const double by_segments = test::mean_kl(logits(all_f32, 0), in_segments, n_vocab);
    const double by_bf16 = test::mean_kl(logits(0, 0), in_segments, n_vocab);
    std::cout << fmt::format("whole against segments: {:.2g} in f32, {:.2g} in bf16\n", by_segments, by_bf16);
    // Products with quantised weights amplify rounding to this extent.
    EXPECT_LT(by_bf16, std::max(1e-3, 2 * by_segments));
}

INSTANTIATE_TEST_SUITE_P(, RealModel, testing::ValuesIn(test::real_model_names()),
                         [](const auto& instance) { return test::test_name_of_model(instance.param); });

}  // namespace
}  // namespace cake
