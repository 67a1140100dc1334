#include "parity/comparison.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <stdexcept>

#include "support/llama_reference.hpp"
#include "support/test_models.hpp"

namespace cake::test {

namespace {

/// KL divergences that are expected at most: in the mean over the tokens, and of those at which greedy choices may
/// differ.
struct MostKl {
    double mean = 0;
    double of_token = 0;
};

/// How much llama.cpp with f16 K and V differs from itself with f32, but at least `least`. Where the scores of two
/// experts are almost equal, a token chooses another one, and its logits differ by far more than those of other tokens.
MostKl own_difference(std::span<const float> single, std::span<const float> half, size_t n_vocab, double least,
                      bool has_experts) {
    MostKl most{.mean = std::max(least, mean_kl(single, half, n_vocab))};
    most.of_token = most.mean;
    if (!has_experts) return most;
    for (size_t begin = 0; begin < single.size(); begin += n_vocab)
        most.of_token = std::max(most.of_token, kl(single.subspan(begin, n_vocab), half.subspan(begin, n_vocab)));
    return most;
}

void expect_close(const std::string& what, std::span<const float> reference, std::span<const float> ours,
                  size_t n_vocab, const MostKl& most) {
    ASSERT_EQ(reference.size(), ours.size());
    const double kl = mean_kl(reference, ours, n_vocab);
    testing::Test::RecordProperty(what, fmt::format("{:.2g} of {:.2g}", kl, most.mean));
    EXPECT_LT(kl, most.mean) << what;
    // Greedy choices agree except for near ties: with a KL divergence of D, logits differ by about sqrt(2 D).
    EXPECT_LT(greedy_regret(reference, ours, n_vocab), 5 * std::sqrt(2 * most.of_token));
}

/// A full cache with room for `n_tokens`.
Sequence full_cache(const std::string& path, size_t n_tokens, const EngineOptions& options,
                    const std::string& cache_type) {
    auto engine = Engine::load(path, options);
    if (!engine) throw std::runtime_error(engine.error().message);
    return start(*engine, {.policy = "full",
                           .cache_type_k = cache_type,
                           .cache_type_v = cache_type,
                           .max_tokens = static_cast<int64_t>(n_tokens)});
}

/// Logits of the second half of a text, which is decoded token by token. The first half is read in two segments.
std::vector<float> logits_in_parts(const std::string& path, std::span<const Token> tokens) {
    auto sequence = full_cache(path, tokens.size(), {.threads = 2, .repack = true}, "f32");
    const size_t half = tokens.size() / 2;
    const size_t first = half / 10;
    append(sequence, tokens.first(first));
    append(sequence, tokens.subspan(first, half - first));
    std::vector<float> logits;
    for (const Token token : tokens.subspan(half)) {
        if (const auto decoded = sequence.decode(token); !decoded) throw std::runtime_error(decoded.error().message);
        logits.append_range(sequence.logits());
    }
    return logits;
}

}  // namespace

std::vector<float> full_logits(const std::string& path, std::span<const Token> tokens, const EngineOptions& options,
                               const std::string& cache_type) {
    auto sequence = full_cache(path, tokens.size(), options, cache_type);
    const auto read = sequence.append(tokens, {.all_logits = true});
    if (!read) throw std::runtime_error(read.error().message);
    return {sequence.logits().begin(), sequence.logits().end()};
}

void expect_parity(const std::string& path, std::span<const Token> tokens, double most_kl, bool repack) {
    const auto info = Engine::load(path, {.threads = 1})->info();
    const auto n_vocab = static_cast<size_t>(info.n_vocab);
    const bool has_experts = info.n_expert > 0;
    const auto half = llama_logits(path, tokens, {.cache_type = GGML_TYPE_F16, .repack = repack});
    const std::string layout = std::filesystem::path(path).stem().string() + (repack ? "_repacked" : "_mapped");
    expect_close(layout + "_ggml", half,
                 full_logits(path, tokens, {.threads = 2, .repack = repack, .ggml_attention = true}, "f16"), n_vocab,
                 {.mean = most_kl, .of_token = most_kl});
    const auto single = llama_logits(path, tokens, {.cache_type = GGML_TYPE_F32, .repack = repack});
    expect_close(layout + "_kernels", single, full_logits(path, tokens, {.threads = 2, .repack = repack}, "f32"),
                 n_vocab, own_difference(single, half, n_vocab, most_kl, has_experts));
    if (!repack) return;
    const size_t begin = tokens.size() / 2 * n_vocab;
    const auto end = std::span(single).subspan(begin);
    expect_close(layout + "_in_parts", end, logits_in_parts(path, tokens), n_vocab,
                 own_difference(end, std::span(half).subspan(begin), n_vocab, most_kl, has_experts));
}

}  // namespace cake::test
