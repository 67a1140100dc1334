#include "text/answer_text.hpp"

#include <gtest/gtest.h>

#include <random>

#include "text/utf8.hpp"

namespace cake {
namespace {

/// Adds `bytes` in pieces of the given sizes, expects every part to consist of whole characters, and returns all text.
std::string in_pieces(const std::string& bytes, std::vector<std::string> stop, const std::function<size_t()>& size) {
    AnswerText text(std::move(stop));
    std::string result;
    for (size_t at = 0; at < bytes.size() && !text.stopped();) {
        const size_t n = std::min(size(), bytes.size() - at);
        const auto part = text.add(std::string_view(bytes).substr(at, n));
        EXPECT_TRUE(is_utf8(part));
        result += part;
        at += n;
    }
    return result + text.finish();
}

TEST(AnswerText, NeverCutsACharacter) {
    const std::string text = "caf\xC3\xA9 日本語 🍰!";
    for (size_t size = 1; size < 8; size++) EXPECT_EQ(in_pieces(text, {}, [&] { return size; }), text);
    AnswerText pieces({});
    EXPECT_EQ(pieces.add("\xF0\x9F"), "");
    EXPECT_EQ(pieces.add("\x8D"), "");
    EXPECT_EQ(pieces.add("\xB0x"), "🍰x");
}

TEST(AnswerText, ASplitCharacterBelongsToTheLastOfItsTokens) {
    using Texts = std::vector<std::string>;
    EXPECT_EQ(texts_of({"a", "\xF0\x9F", "\x8D\xB0", "b"}), (Texts{"a", "", "🍰", "b"}));
    EXPECT_EQ(texts_of({"\xC3\xA9\xC3", "\xA9\xE6", "\x97"}), (Texts{"é", "é", "\uFFFD\uFFFD"}));
    EXPECT_EQ(texts_of({}), Texts{});
}

TEST(AnswerText, WhatIsNoCharacterIsReplaced) {
    EXPECT_EQ(in_pieces("a\xFF\x80z", {}, [] { return 1; }), "a\uFFFD\uFFFDz");
    EXPECT_EQ(in_pieces("a\xE6\x97", {}, [] { return 1; }), "a\uFFFD\uFFFD");
    EXPECT_EQ(in_pieces("\xED\xA0\x80.", {}, [] { return 2; }), "\uFFFD\uFFFD\uFFFD.");
}

TEST(AnswerText, EndsBeforeTheFirstStopString) {
    for (size_t size = 1; size < 12; size++) {
        const auto with = [&](std::vector<std::string> stop) {
            return in_pieces("one two three four", std::move(stop), [&] { return size; });
        };
        EXPECT_EQ(with({"three"}), "one two ");
        EXPECT_EQ(with({"four", "two"}), "one ");
        EXPECT_EQ(with({"two three", "three"}), "one ");
        EXPECT_EQ(with({"threx", "fours"}), "one two three four");
        EXPECT_EQ(with({"one"}), "");
    }
}

TEST(AnswerText, HoldsBackNoMoreThanMayBecomeAStopString) {
    AnswerText text({"\n\nHuman:"});
    EXPECT_EQ(text.add("Yes.\n"), "Yes.");
    EXPECT_EQ(text.add("\nHum"), "");
    EXPECT_EQ(text.add("ble"), "\n\nHumble");
    EXPECT_FALSE(text.stopped());
    EXPECT_EQ(text.add("\n\nHuman"), "");
    EXPECT_EQ(text.add(": and more"), "");
    EXPECT_TRUE(text.stopped());
    EXPECT_EQ(text.add("nothing"), "");
    EXPECT_EQ(text.finish(), "");
}

TEST(AnswerText, ByPiecesIsWhatItIsAsAWhole) {
    std::mt19937 random(3);
    for (int round = 0; round < 2000; round++) {
        std::string bytes;
        for (size_t i = random() % 30; i > 0; i--)
            bytes += static_cast<char>("ab\xC3\xA9\xF0\x9F\x8D\xB0"[random() % 8]);
        const std::vector<std::string> stop{"ab",
                                            "\xC3\xA9"
                                            "a"};
        const auto whole = in_pieces(bytes, stop, [&] { return bytes.size(); });
        EXPECT_EQ(in_pieces(bytes, stop, [&] { return 1 + random() % 3; }), whole) << round;
    }
}

}  // namespace
}  // namespace cake
