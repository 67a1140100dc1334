// Prefills a text under a budget and prints a continuation. usage: generate MODEL FILE [TOKENS_PER_LAYER]

#include <cake/engine.hpp>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>

namespace {

int fail(const cake::Error& error) {
    std::fprintf(stderr, "%s\n", error.message.c_str());
    return 1;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 3) return fail({"usage: generate MODEL FILE [TOKENS_PER_LAYER]"});
    std::ifstream file(argv[2]);
    const std::string text(std::istreambuf_iterator<char>(file), {});
    const auto engine = cake::Engine::load(argv[1]);
    if (!engine) return fail(engine.error());

    const auto tokens = engine->tokenize(text);
    if (!tokens) return fail(tokens.error());
    auto sequence =
        engine->sequence({.budget = cake::TokensPerLayer{argc > 3 ? std::strtoll(argv[3], nullptr, 10) : 1024}});
    if (!sequence) return fail(sequence.error());
    if (auto read = sequence->append(*tokens); !read) return fail(read.error());
    for (const auto token : sequence->generate({.max_tokens = 64, .sampling = {.temperature = 0}}))
        std::fputs(engine->piece(token).c_str(), stdout);
    if (sequence->finish_reason() == cake::FinishReason::failed) return fail(sequence->error());

    const auto memory = sequence->memory();
    std::printf("\n%zu tokens read; K/V: %llu bytes held of %llu, a full cache would hold %llu\n", tokens->size(),
                static_cast<unsigned long long>(memory.kv_bytes_now),
                static_cast<unsigned long long>(memory.kv_bytes_budget),
                static_cast<unsigned long long>(memory.kv_bytes_full_cache));
}
