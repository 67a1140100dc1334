#include "text/tool_grammar.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "cake/constraint.hpp"
#include "support/test_vocabulary.hpp"
#include "text/guide.hpp"
#include "text/sampler.hpp"

namespace cake {
namespace {

using Json = nlohmann::ordered_json;

const Vocabulary& vocabulary() {
    static const Vocabulary loaded = test::vocabulary_of(CAKE_MODELS "/cake-mini.gguf");
    return loaded;
}

std::vector<Tool> tools() {
    return {{.name = "get_weather",
             .parameters = Json::parse(R"({"type": "object", "properties": {"city": {"type": "string", "maxLength": 6},
                                           "days": {"type": "integer", "minimum": 1, "maximum": 9},
                                           "unit": {"$ref": "#/$defs/unit"}}, "required": ["city", "unit"],
                                           "$defs": {"unit": {"enum": ["C", "F"]}}, "additionalProperties": false})")},
            {.name = "stop", .parameters = Json::parse(R"({"type": "object", "additionalProperties": false})")}};
}

ReplyOptions reply_of(const ReplyFormat& format) {
    return {.format = &format, .tools = tools()};
}

std::unique_ptr<Restriction> begin(const ReplyOptions& reply, const ToolChoice& choice) {
    const auto grammar = tool_grammar(vocabulary(), reply, choice);
    const auto rule = make_lark_rule(vocabulary(), grammar);
    if (!rule) throw std::runtime_error(rule.error().message + "\n" + grammar);
    auto begun = (*rule)->begin(vocabulary());
    if (!begun) throw std::runtime_error(begun.error().message);
    return std::move(*begun);
}

/// The number of bytes of a text that the restriction allows. One more if the text may end there.
size_t n_allowed(Restriction& restriction, std::string_view text) {
    size_t n = 0;
    for (const int32_t token : *vocabulary().tokenize(text, {.around = false, .written_out = false})) {
        if (!restriction.allows(token) || !restriction.accept(token)) return n;
        n += vocabulary().piece(token).size();
    }
    return n + (restriction.end() ? 1 : 0);
}

/// Draws a text at random.
std::string draw(const ReplyOptions& reply, const ToolChoice& choice, uint32_t seed) {
    std::mt19937 random(seed);
    const auto n_vocab = static_cast<size_t>(vocabulary().n_tokens());
    Sampler sampler({.temperature = 1, .seed = seed}, vocabulary(), static_cast<int32_t>(n_vocab),
                    begin(reply, choice));
    std::string text;
    std::vector<int32_t> closing;  // tokens that end the value of an argument, the last first
    for (int i = 0; i < 2000; i++) {
        std::vector<float> logits(n_vocab);
        for (float& logit : logits) logit = static_cast<float>(random() % 1000) / 100;
        // Strings come to an end, and so do calls and the text.
        for (int32_t token = 0; token < vocabulary().n_tokens(); token++)
            if (vocabulary().is_end_of_generation(token)) logits[static_cast<size_t>(token)] += 30;
        for (const char* end : {"\"", "}", "</", "<"})
            for (const int32_t token : *vocabulary().tokenize(end, {.around = false, .written_out = false}))
                logits[static_cast<size_t>(token)] += 8;
        if (closing.empty() && random() % 8 == 0) {
            closing = *vocabulary().tokenize(reply.format->syntax.after_value, {.around = false, .written_out = false});
            std::ranges::reverse(closing);
        }
        if (!closing.empty()) {
            logits[static_cast<size_t>(closing.back())] += 40;
            closing.pop_back();
        }
        const auto token = sampler.sample(logits);
        if (!token) throw std::runtime_error(token.error().message);
        if (vocabulary().is_end_of_generation(*token)) return text;
        text += vocabulary().piece(*token);
    }
    return "no end: " + text;
}

TEST(ToolGrammar, AnAnswerWithASchemaIsACallOrKeepsToIt) {
    for (const auto& format : reply_formats()) {
        SCOPED_TRACE(format.name);
        const auto reply = reply_of(format);
        for (uint32_t seed = 1; seed <= 6; seed++) {
            const auto text =
                draw(reply, {.content_schema = R"({"type": "object", "properties": {"n": {"enum": [1, 2]}},
                                           "required": ["n"], "additionalProperties": false})"},
                     seed);
            ReplyReader reader(reply);
            auto parts = reader.add(text);
            parts.append_range(reader.finish());
            ASSERT_FALSE(parts.empty()) << text;
            const bool is_call = parts.front().kind == ReplyPart::Kind::call;
            for (const auto& part : parts) EXPECT_EQ(part.kind == ReplyPart::Kind::call, is_call) << text;
            if (is_call) continue;
            const auto answer = Json::parse(text, nullptr, false);
            ASSERT_TRUE(answer.is_object() && answer.size() == 1 && answer.contains("n")) << text;
            EXPECT_TRUE(answer["n"] == 1 || answer["n"] == 2) << text;
        }
    }
}

TEST(ToolGrammar, ARequiredCallIsReadInEveryFormat) {
    for (const auto& format : reply_formats()) {
        SCOPED_TRACE(format.name);
        const auto reply = reply_of(format);
        for (uint32_t seed = 1; seed <= 6; seed++) {
            const bool is_parallel = seed % 2 == 0;
            const auto text = draw(reply, {.is_required = true, .is_parallel = is_parallel}, seed);
            ReplyReader reader(reply);
            auto parts = reader.add(text);
            parts.append_range(reader.finish());
            ASSERT_FALSE(parts.empty()) << text;
            if (!is_parallel) {
                EXPECT_EQ(parts.size(), 1U) << text;
            }
            for (const auto& part : parts) {
                ASSERT_EQ(part.kind, ReplyPart::Kind::call) << text;
                const auto arguments = Json::parse(part.call.arguments);
                if (part.call.name != "get_weather") continue;
                EXPECT_TRUE(arguments.contains("city") && arguments["city"].is_string()) << text;
                EXPECT_TRUE(arguments["unit"] == "C" || arguments["unit"] == "F") << text;
                EXPECT_TRUE(!arguments.contains("days") || arguments["days"].is_number_integer()) << text;
            }
        }
    }
}

TEST(ToolGrammar, ContentIsFreeUntilACallBegins) {
    const auto reply = reply_of(usual_reply_format());
    const auto check = [&](std::string_view text, size_t n) {
        EXPECT_EQ(n_allowed(*begin(reply, {}), text), n) << text;
    };
    for (const std::string_view text : {"", "the rain in <tool", "a\n\n{\"name\"</tool_call>"})
        check(text, text.size() + 1);
    check("so <tool_call>\n{\"name\": \"other", std::string_view("so <tool_call>\n{\"name\": \"").size());
    constexpr std::string_view kCall = "so <tool_call>\n{\"name\": \"stop\", \"arguments\": {}}\n</tool_call>";
    check(kCall, kCall.size() + 1);
    const auto two = std::string(kCall) + "\n<tool_call>\n{\"name\": \"stop\", \"arguments\": {}}\n</tool_call>";
    check(two, two.size() + 1);
    const size_t n_single = n_allowed(*begin(reply, {.is_parallel = false}), two);
    EXPECT_TRUE(n_single + 1 >= kCall.size() && n_single <= kCall.size())
        << "a token may hold the last byte and the next";
}

TEST(ToolGrammar, ReasoningComesFirstAndIsFree) {
    auto reply = reply_of(usual_reply_format());
    reply.reasoning = ReasoningMarks{"<think>", "</think>"};
    constexpr std::string_view kCall = "<tool_call>\n{\"name\": \"stop\", \"arguments\": {}}\n</tool_call>";
    for (const auto& choice : {ToolChoice{}, ToolChoice{.is_required = true}}) {
        const auto text = "<think>is <tool_call> it?</think>\n\n" + std::string(kCall);
        EXPECT_EQ(n_allowed(*begin(reply, choice), text), text.size() + 1);
        EXPECT_EQ(n_allowed(*begin(reply, choice), kCall), kCall.size() + 1);
    }
    reply.begins_in_reasoning = true;
    const auto text = "is <tool_call> it?</think>\n\n" + std::string(kCall);
    for (const auto& choice : {ToolChoice{}, ToolChoice{.is_required = true}})
        EXPECT_EQ(n_allowed(*begin(reply, choice), text), text.size() + 1);
    constexpr std::string_view kEndless = "is <tool_call> it?";
    EXPECT_EQ(n_allowed(*begin(reply, {}), kEndless), kEndless.size() + 1);
    EXPECT_EQ(n_allowed(*begin(reply, {.is_required = true}), kEndless), kEndless.size());
}

}  // namespace
}  // namespace cake
