// A custom scorer: keeps the tokens that the window attends to, and always the beginning of the text.
// usage: own_policy MODEL FILE

#include <cake/engine.hpp>
#include <cake/policy.hpp>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>

namespace {

int fail(const cake::Error& error) {
    std::fprintf(stderr, "%s\n", error.message.c_str());
    return 1;
}

std::vector<float> score(const cake::ScorerInput& input) {
    constexpr int32_t kBeginning = 16;
    const auto& keys = input.scored();
    const size_t n_keys = keys.positions.size();
    std::vector<float> scores(n_keys);
    for (size_t j = 0; j < n_keys; j++) {
        for (size_t i = j; i < keys.mean.size(); i += n_keys) scores[j] = std::max(scores[j], keys.mean[i]);
        if (keys.positions[j] < kBeginning) scores[j] = 1;  // no mean attention is larger
    }
    return scores;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 3) return fail({"usage: own_policy MODEL FILE"});
    const auto added = cake::add_scorer({.name = "mine", .reads = {.window = true}, .score = score});
    if (!added) return fail(added.error());
    std::ifstream file(argv[2]);
    const auto engine = cake::Engine::load(argv[1]);
    if (!engine) return fail(engine.error());
    const auto tokens = engine->tokenize(std::string(std::istreambuf_iterator<char>(file), {}));
    if (!tokens) return fail(tokens.error());
    for (const auto* policy : {"full", "cake", "mine:uniform", "mine:preference"}) {
        cake::SequenceOptions options{.policy = policy};
        if (options.policy != "full") options.budget = cake::TokensPerLayer{128};
        auto sequence = engine->sequence(options);
        if (!sequence) return fail(sequence.error());
        if (auto read = sequence->append(*tokens); !read) return fail(read.error());
        std::printf("%-16s", policy);
        for (const auto token :
             sequence->generate({.max_tokens = 16, .ignore_eos = true, .sampling = {.temperature = 0}}))
            std::fputs(engine->piece(token).c_str(), stdout);
        std::puts("");
    }
}
