#include "cake/token_stream.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <random>
#include <stdexcept>

#include "support/test_models.hpp"

namespace cake {
namespace {

/// Models with different vocabularies: random weights with a SentencePiece vocabulary, and the bundled model.
std::vector<std::string> models() {
    return {test::model_path("f32"), std::string(CAKE_MODELS) + "/cake-mini.gguf"};
}

std::string document() {
    std::ifstream file(std::string(CAKE_MODELS) + "/document.txt");
    return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<Token> stream(TokenStream stream, std::string_view text, const std::function<size_t()>& piece_size) {
    std::vector<Token> tokens;
    const auto take = [&](const Result<std::vector<Token>>& some) {
        if (!some) throw std::runtime_error(some.error().message);
        tokens.insert(tokens.end(), some->begin(), some->end());
    };
    while (!text.empty()) {
        const auto piece = text.substr(0, piece_size());
        take(stream.feed(piece));
        text.remove_prefix(piece.size());
    }
    take(stream.finish());
    return tokens;
}

TEST(TokenStream, OfAnyPiecesIsTheWholeText) {
    std::string text =
        "  It begins with two spaces.\n\n" + document() + "\nA line.\n\tAnother\xC3\xA9  one,  2,048 \xF0\x9F\x8D\xB0";
    while (text.size() < 150000) text += document();
    for (const auto& path : models()) {
        SCOPED_TRACE(path);
        const auto engine = Engine::load(path, {.threads = 1});
        ASSERT_TRUE(engine) << engine.error().message;
        const auto whole = *engine->tokenize(text);
        std::mt19937 random(5);
        EXPECT_EQ(stream(TokenStream(*engine), text, [&] { return 1 + random() % 40000; }), whole);
        EXPECT_EQ(stream(TokenStream(*engine), text, [&] { return 1 + random() % 100; }), whole);
        EXPECT_EQ(stream(TokenStream(*engine), text, [&] { return text.size(); }), whole);
    }
}

TEST(TokenStream, ThatContinuesAddsNothingInFront) {
    for (const auto& path : models()) {
        SCOPED_TRACE(path);
        const auto engine = Engine::load(path, {.threads = 1});
        ASSERT_TRUE(engine) << engine.error().message;
        const std::string begin = "The river was wide";
        for (const std::string rest : {" and cold.", "\nAnd cold.", "\n\nIt rose."}) {
            auto tokens = *engine->tokenize(begin);
            tokens.append_range(stream(TokenStream(*engine, true), rest, [] { return 3; }));
            EXPECT_EQ(tokens, *engine->tokenize(begin + rest)) << rest;
        }
        EXPECT_TRUE(stream(TokenStream(*engine, true), "", [] { return 1; }).empty());
    }
}

TEST(TokenStream, ATextWithoutWordsIsCutBetweenCharacters) {
    std::string text;
    while (text.size() < 300000) text += "\xE6\xB2\xB3\xF0\x9F\x8D\xB0";
    const auto engine = Engine::load(models().front(), {.threads = 1});
    ASSERT_TRUE(engine) << engine.error().message;
    EXPECT_EQ(stream(TokenStream(*engine), text, [] { return 65536; }), *engine->tokenize(text));
}

}  // namespace
}  // namespace cake
