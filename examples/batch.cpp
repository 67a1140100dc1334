// Answers four prompts at once in a fixed amount of K/V memory. usage: batch MODEL

#include <cake/batcher.hpp>

#include <cstdio>
#include <string>
#include <vector>

int main(int argc, char** argv) {
    const auto fail = [](const std::string& message) { return std::fprintf(stderr, "%s\n", message.c_str()), 1; };
    if (argc < 2) return fail("usage: batch MODEL");
    const auto engine = cake::Engine::load(argv[1]);
    if (!engine) return fail(engine.error().message);
    const auto batcher = cake::Batcher::start(*engine, {.pool = {.n_parallel = 4, .n_ctx = 2048}});
    if (!batcher) return fail(batcher.error().message);
    const char* const prompts[] = {"The capital of France is", "Two and two are", "A cake is made of",
                                   "Once upon a time"};
    std::vector<std::shared_ptr<cake::Generation>> answers;
    for (const auto* prompt : prompts) {
        cake::GenerationRequest request{.prompt = engine->tokenize(prompt).value(), .max_tokens = 24};
        request.sequence = (*batcher)->limits().sequence;
        request.sampling.temperature = 0;
        auto answer = (*batcher)->submit(request);
        if (!answer) return fail(answer.error().message);
        answers.push_back(*answer);
    }
    for (size_t i = 0; i < answers.size(); i++) {
        std::printf("%s", prompts[i]);
        while (const auto event = answers[i]->next()) {
            if (const auto* drawn = std::get_if<cake::TokenDrawn>(&event->what))
                std::fputs(engine->piece(drawn->token).c_str(), stdout);
            const auto* ended = std::get_if<cake::ChoiceEnded>(&event->what);
            if (ended != nullptr && ended->reason == cake::FinishReason::failed) return fail(ended->error.message);
        }
        std::puts("");
    }
}
