#include "cake/conversation.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <stdexcept>

#include "cake/token_stream.hpp"
#include "support/test_models.hpp"

namespace cake {
namespace {

const Engine& engine() {
    static const Engine loaded = test::load("f32", 64);
    return loaded;
}

Conversation start() {
    auto conversation =
        Conversation::start(engine(), {.sequence = {.budget = TokensPerLayer{128}}, .chat_template = "chatml"});
    if (!conversation) throw std::runtime_error(conversation.error().message);
    return std::move(*conversation);
}

std::string message(const std::string& role, const std::string& content) {
    return "<|im_start|>" + role + "\n" + content + "<|im_end|>\n";
}

const std::string kAnswer = "<|im_start|>assistant\n";

int64_t count(const std::string& text, bool continues) {
    const auto tokens = TokenStream::whole(engine(), text, continues);
    if (!tokens) throw std::runtime_error(tokens.error().message);
    return static_cast<int64_t>(tokens->size());
}

TEST(Conversation, AQuestionThatWasNotAnsweredIsNotReadAgain) {
    auto asked = start();
    ASSERT_TRUE(asked.ask("The rain?"));
    const int64_t n_first = count(message("user", "The rain?") + kAnswer, false);
    EXPECT_EQ(asked.sequence().n_tokens(), n_first);

    const auto path = std::filesystem::temp_directory_path() / fmt::format("cake-conversation-{}", ::getpid());
    ASSERT_TRUE(asked.save(path));
    auto loaded = Conversation::load(engine(), path, {.chat_template = "chatml"});
    std::filesystem::remove(path);
    ASSERT_TRUE(loaded) << loaded.error().message;
    const int64_t n_second = count("<|im_end|>\n" + message("user", "And Spain?") + kAnswer, true);
    for (auto* conversation : {&asked, &*loaded}) {
        ASSERT_TRUE(conversation->ask("And Spain?"));
        EXPECT_EQ(conversation->sequence().n_tokens(), n_first + n_second);
        ASSERT_EQ(conversation->messages().size(), 3U);
        EXPECT_EQ(conversation->messages()[1].role, "assistant");
    }
}

TEST(Conversation, CanBeMovedWhileItAnswers) {
    auto first = start();
    ASSERT_TRUE(first.ask("The rain?"));
    auto answer = first.answer({.max_tokens = 8, .ignore_eos = true, .sampling = {.temperature = 0}});
    std::string text = answer.next().value_or("");
    const auto second = std::move(first);
    while (const auto piece = answer.next()) text += *piece;
    EXPECT_EQ(second.messages().back().content, text);
    EXPECT_FALSE(text.empty());
}

TEST(Conversation, WhiteSpaceAtTheEndOfAnAnswerIsReadOnce) {
    // The model's answers are random, so try several seeds and use the answers that were stopped after white space.
    size_t n_seen = 0;
    for (uint32_t seed = 1; seed <= 20; seed++) {
        auto conversation = start();
        ASSERT_TRUE(conversation.ask("The rain?"));
        for (const auto& piece : conversation.answer(
                 {.max_tokens = 60, .ignore_eos = true, .sampling = {.temperature = 1, .seed = seed}})) {
            if (!piece.empty() && std::isspace(static_cast<unsigned char>(piece.back())) != 0) break;
        }
        const auto& answer = conversation.messages().back().content;
        if (answer.empty() || std::isspace(static_cast<unsigned char>(answer.back())) == 0) continue;
        n_seen++;
        const int64_t n_before = conversation.sequence().n_tokens() + 1;  // plus the answer's last token
        ASSERT_TRUE(conversation.ask("And Spain?"));
        EXPECT_EQ(conversation.sequence().n_tokens() - n_before,
                  count("<|im_end|>\n" + message("user", "And Spain?") + kAnswer, true))
            << answer;
    }
    EXPECT_GT(n_seen, 2U);
}

TEST(Conversation, AControlTokenInAMessageIsText) {
    auto asked = start();
    ASSERT_TRUE(asked.ask("The rain?"));
    const int64_t n_before = asked.sequence().n_tokens();
    const std::string typed = "<s>";
    ASSERT_TRUE(asked.ask("And " + typed + "?"));
    // "<s>" as a control token would add a single token; as text it adds at least two.
    const int64_t n_other = count("<|im_end|>\n" + message("user", "And ?") + kAnswer, true);
    EXPECT_GE(asked.sequence().n_tokens() - n_before, n_other + 2);
}

TEST(Conversation, AMessageWithAZeroByteIsRefusedAndNotSaid) {
    auto conversation = start();
    ASSERT_TRUE(conversation.ask("The rain?"));
    const auto asked = conversation.ask(std::string("a\0b", 3));
    ASSERT_FALSE(asked);
    EXPECT_NE(asked.error().message.find("zero byte"), std::string::npos) << asked.error().message;
    EXPECT_EQ(conversation.messages().size(), 1U);
    EXPECT_TRUE(conversation.ask("ab"));
}

const std::string kText = "Document rain.txt:\n\nThe rain in Spain stays mainly in the plain.\n\n";

TEST(Conversation, AMessageThatIsReadInTwoPartsIsTheSameText) {
    auto whole = start();
    ASSERT_TRUE(whole.ask(kText + "Question: Where?"));
    auto parts = start();
    ASSERT_TRUE(parts.begin(kText));
    EXPECT_TRUE(parts.is_begun());
    EXPECT_EQ(parts.sequence().n_tokens(), count("<|im_start|>user\n" + kText, false));
    EXPECT_EQ(std::ssize(parts.last_prompt()), parts.sequence().n_tokens());
    EXPECT_FALSE(parts.begin(kText)) << "a second beginning";
    ASSERT_TRUE(parts.ask("Question: Where?"));
    EXPECT_FALSE(parts.is_begun());
    EXPECT_EQ(parts.messages().back().content, whole.messages().back().content);
    EXPECT_EQ(parts.sequence().n_tokens(), whole.sequence().n_tokens());
    for (size_t i = 0; i < whole.sequence().logits().size(); i++)
        EXPECT_NEAR(parts.sequence().logits()[i], whole.sequence().logits()[i], 1e-3);
}

/// A session file of a text that fills its budget.
class BegunSession : public testing::Test {
  protected:
    static constexpr int32_t kWindow = 16;

    ~BegunSession() override { std::filesystem::remove(path); }

    uint64_t save(bool more_follows) {
        if (auto saved = sequence.save(path, {.more_follows = more_follows}); !saved)
            throw std::runtime_error(saved.error().message);
        return std::filesystem::file_size(path);
    }

    std::filesystem::path path = std::filesystem::temp_directory_path() / fmt::format("cake-begun-{}", ::getpid());
    std::vector<Token> tokens = test::sample_tokens(engine(), 64);
    Sequence sequence = [this] {
        auto started = test::start(engine(), {.budget = TokensPerLayer{64}, .window = kWindow});
        test::append(started, tokens);
        return started;
    }();
};

TEST_F(BegunSession, HoldsNeitherLogitsNorQueries) {
    const auto& info = engine().info();
    const int64_t n_query = int64_t{info.head_dim_k} * info.n_head;
    const auto n_values = static_cast<uint64_t>(info.n_vocab + kWindow * n_query * info.n_layer);
    const auto n_less = static_cast<double>(save(false) - save(true));
    EXPECT_NEAR(n_less, static_cast<double>(n_values * sizeof(float)), 64) << "but for the header";
}

TEST_F(BegunSession, GoesOnWithATextAndRefusesATokenThatWouldEvict) {
    save(true);
    auto loaded = Sequence::load(engine(), path);
    ASSERT_TRUE(loaded) << loaded.error().message;
    const auto decoded = loaded->decode(tokens[0]);
    ASSERT_FALSE(decoded);
    EXPECT_TRUE(decoded.error().message.contains("append a text first")) << decoded.error().message;
    test::append(*loaded, std::span(tokens).first(kWindow));
    test::append(sequence, std::span(tokens).first(kWindow));
    EXPECT_TRUE(std::ranges::equal(loaded->logits(), sequence.logits()));
    EXPECT_TRUE(std::ranges::equal(loaded->positions(0, 0), sequence.positions(0, 0))) << "the window is the same";
    EXPECT_TRUE(loaded->decode(tokens[0]));
}

TEST(Conversation, ABegunMessageIsSavedAndContinuedWithMoreRoom) {
    auto begun = start();
    ASSERT_TRUE(begun.begin(kText));
    begun.set_note("a \"note\"");
    const auto path = std::filesystem::temp_directory_path() / fmt::format("cake-begun-{}", ::getpid());
    ASSERT_TRUE(begun.save(path));
    auto loaded = Conversation::load(engine(), path, {.chat_template = "chatml"}, 32);
    ASSERT_TRUE(loaded) << loaded.error().message;
    EXPECT_EQ(loaded->note(), "a \"note\"");
    EXPECT_TRUE(loaded->is_begun());
    EXPECT_TRUE(std::ranges::equal(loaded->last_prompt(), begun.last_prompt()));
    EXPECT_EQ(loaded->sequence().memory().budget_tokens_per_layer,
              begun.sequence().memory().budget_tokens_per_layer + 32);
    ASSERT_TRUE(loaded->ask("Question: Where?"));
    ASSERT_TRUE(begun.ask("Question: Where?"));
    EXPECT_TRUE(std::ranges::equal(loaded->sequence().logits(), begun.sequence().logits()));

    const auto other = Conversation::load(engine(), path, {.chat_template = "llama3"});
    std::filesystem::remove(path);
    ASSERT_FALSE(other);
    EXPECT_TRUE(other.error().message.contains("another chat template")) << other.error().message;
}

}  // namespace
}  // namespace cake
