#include "support/test_models.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <stdexcept>
#include <utility>

namespace cake::test {

namespace {

template <typename T>
T value_of(Result<T> result) {
    if (!result) throw std::runtime_error(result.error().message);
    return std::move(*result);
}

}  // namespace

std::vector<std::string> family_names() {
    return {"llama",
            "mixtral",
            "mixtral-all",
            "qwen2",
            "qwen3",
            "qwen3moe",
            "gemma2",
            "gemma3",
            "gemma4",
            "gemma4-moe",
            "qwen3next",
            "qwen3next-old",
            "mistral4",
            "hy_v3",
            "falcon-h1",
            "nemotron_h",
            "nemotron_h_moe",
            "exaone-moe",
            "phi3",
            "phi3-short",
            "gpt2",
            "gpt-oss",
            "smollm3",
            "granite",
            "olmo2",
            "olmo3",
            "mistral3",
            "qwen2moe",
            "qwen2vl",
            "qwen3vl",
            "qwen3vlmoe",
            "qwen35",
            "qwen35moe",
            "lfm2",
            "lfm2moe",
            "granitehybrid",
            "granitehybrid-moe",
            "gemma",
            "phimoe",
            "starcoder2",
            "glm4",
            "glm4moe",
            "minimax-m2",
            "deepseek2",
            "deepseek2-lite",
            "dots1",
            "bailingmoe2",
            "afmoe",
            "mellum",
            "ernie4_5",
            "ernie4_5-moe",
            "hunyuan-dense",
            "hunyuan-moe",
            "seed_oss",
            "exaone",
            "exaone4",
            "exaone4-swa",
            "smallthinker",
            "arcee",
            "apertus",
            "granitemoe",
            "olmoe",
            "command-r",
            "cohere2"};
}

std::string family_test_name(const testing::TestParamInfo<std::string>& instance) {
    std::string name = instance.param;
    std::ranges::replace(name, '-', '_');
    return name;
}

Engine load(const std::string& name, int32_t n_batch) {
    const char* device = std::getenv("CAKE_TEST_DEVICE");
    return value_of(Engine::load(
        model_path(name), {.threads = 2, .n_batch = n_batch, .devices = {.device = device == nullptr ? "" : device}}));
}

Sequence start(const Engine& engine, const SequenceOptions& options) {
    return value_of(engine.sequence(options));
}

void append(Sequence& sequence, std::span<const Token> tokens) {
    if (const auto read = sequence.append(tokens); !read) throw std::runtime_error(read.error().message);
}

std::vector<Token> generate(Sequence& sequence, int64_t n) {
    std::vector<Token> result;
    for (const Token t : sequence.generate({.max_tokens = n, .ignore_eos = true, .sampling = {.temperature = 0}}))
        result.push_back(t);
    return result;
}

SequenceOptions full(int64_t max_tokens) {
    return {.policy = "full", .cache_type_k = "f32", .cache_type_v = "f32", .max_tokens = max_tokens};
}

std::vector<Token> sample_tokens(const Engine& engine, size_t n) {
    std::string text;
    std::vector<Token> tokens;
    for (size_t day = 1; tokens.size() < n; day++) {
        for (size_t i = 0; i < 40; i++, day++) {
            text += fmt::format("On day {} the {} crossed the {} river and {} of them came back. ", day * 7919 % 1009,
                                day % 3 == 0 ? "riders" : "whalers", day % 5 == 0 ? "frozen" : "wide", day * day % 83);
        }
        tokens = value_of(engine.tokenize(text));
    }
    tokens.resize(n);
    return tokens;
}

}  // namespace cake::test
