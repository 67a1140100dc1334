// Prefills a document once, saves the session, and answers any number of questions from it.
// usage: session save MODEL FILE SESSION, then session ask MODEL SESSION QUESTION

#include <cake/engine.hpp>
#include <cake/token_stream.hpp>

#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>

namespace {

int fail(const cake::Error& error) {
    std::fprintf(stderr, "%s\n", error.message.c_str());
    return 1;
}

int save(const cake::Engine& engine, const char* file_name, const char* session_name) {
    std::ifstream file(file_name);
    const auto tokens = engine.tokenize(std::string(std::istreambuf_iterator<char>(file), {}));
    if (!tokens) return fail(tokens.error());
    auto sequence = engine.sequence({.budget = cake::TokensPerLayer{256}});
    if (!sequence) return fail(sequence.error());
    if (auto read = sequence->append(*tokens); !read) return fail(read.error());
    const auto saved = sequence->save(session_name);
    return saved ? 0 : fail(saved.error());
}

int ask(const cake::Engine& engine, const char* session_name, const char* question) {
    auto sequence = cake::Sequence::load(engine, session_name);
    if (!sequence) return fail(sequence.error());
    const auto tokens = cake::TokenStream::whole(engine, question, true);  // continues the saved text
    if (!tokens) return fail(tokens.error());
    if (auto read = sequence->append(*tokens); !read) return fail(read.error());
    for (const auto token : sequence->generate({.max_tokens = 32, .sampling = {.temperature = 0}}))
        std::fputs(engine.piece(token).c_str(), stdout);
    std::puts("");
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 5) return fail({"usage: session save MODEL FILE SESSION, or session ask MODEL SESSION QUESTION"});
    const auto engine = cake::Engine::load(argv[2]);
    if (!engine) return fail(engine.error());
    return std::string_view(argv[1]) == "save" ? save(*engine, argv[3], argv[4]) : ask(*engine, argv[3], argv[4]);
}
