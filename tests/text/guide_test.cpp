#include "text/guide.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <random>
#include <thread>

#include "cake/constraint.hpp"
#include "support/test_vocabulary.hpp"
#include "text/sampler.hpp"
#include "text/utf8.hpp"

namespace cake {
namespace {

const Vocabulary& vocabulary() {
    static const Vocabulary loaded = test::vocabulary_of(CAKE_MODELS "/cake-mini.gguf");
    return loaded;
}

std::unique_ptr<Restriction> begin(const Result<Constraint>& constraint) {
    if (!constraint) throw std::runtime_error(constraint.error().message);
    auto begun = constraint->rule().begin(vocabulary());
    if (!begun) throw std::runtime_error(begun.error().message);
    return std::move(*begun);
}

std::vector<int32_t> tokens_of(std::string_view text) {
    return *vocabulary().tokenize(text, {.around = false, .written_out = false});
}

/// Whether the text is the beginning of one that the restriction allows.
bool begins(Restriction& restriction, std::string_view text) {
    for (const int32_t token : tokens_of(text))
        if (!restriction.allows(token) || !restriction.accept(token)) return false;
    return true;
}

bool accepts(const Result<Constraint>& constraint, std::string_view text) {
    const auto restriction = begin(constraint);
    return begins(*restriction, text) && restriction->end();
}

void expect(const Result<Constraint>& constraint, const std::vector<std::string>& allowed,
            const std::vector<std::string>& others) {
    for (const auto& text : allowed) EXPECT_TRUE(accepts(constraint, text)) << text;
    for (const auto& text : others) EXPECT_FALSE(accepts(constraint, text)) << text;
}

void expect_schema(const std::string& schema, const std::vector<std::string>& allowed,
                   const std::vector<std::string>& others) {
    SCOPED_TRACE(schema);
    expect(Constraint::json_schema(schema), allowed, others);
}

/// Logits that prefer tokens at random.
std::vector<float> random_logits(std::mt19937& random) {
    std::vector<float> logits(static_cast<size_t>(vocabulary().n_tokens()));
    std::normal_distribution<float> normal(0, 4);
    for (float& x : logits) x = normal(random);
    return logits;
}

/// The text that a sampler draws under the constraint, and whether it came to an end.
std::pair<std::string, bool> drawn(const Result<Constraint>& constraint, std::mt19937& random, int max_tokens) {
    Sampler sampler({.temperature = 1, .seed = static_cast<uint32_t>(random())}, vocabulary(), vocabulary().n_tokens(),
                    begin(constraint));
    std::string text;
    for (int i = 0; i < max_tokens; i++) {
        const auto token = sampler.sample(random_logits(random));
        if (!token) throw std::runtime_error(token.error().message);
        if (vocabulary().is_end_of_generation(*token)) return {text, true};
        text += vocabulary().piece(*token);
    }
    return {text, false};
}

// These requests were refused by a server with fewer keywords.
TEST(JsonSchema, WhatClientsSendIsEnforced) {
    const auto object = [](const std::string& property) {
        return fmt::format(
            R"({{"type": "object", "properties": {{"x": {}}}, "required": ["x"], "additionalProperties": false}})",
            property);
    };
    expect_schema(object(R"({"type": "integer", "minimum": -9007199254740991, "maximum": 9007199254740991})"),
                  {R"({"x": 9007199254740991})", R"({"x":-5})"}, {R"({"x": 9007199254740992})", R"({"x": 1.5})", "{}"});
    expect_schema(object(R"({"type": "number", "minimum": 0, "maximum": 1})"),
                  {R"({"x": 0})", R"({"x": 0.25})", R"({"x": 1})", R"({"x": 1.0})"},
                  {R"({"x": -0.1})", R"({"x": 1.01})"});
    expect_schema(object(R"({"type": "number", "exclusiveMinimum": 0})"), {R"({"x": 0.001})", R"({"x": 7})"},
                  {R"({"x": 0})", R"({"x": 0.0})", R"({"x": -1})"});
    expect_schema(object(R"({"type": "string", "maxLength": 257})"),
                  {fmt::format(R"({{"x": "{}"}})", std::string(257, 'a'))},
                  {fmt::format(R"({{"x": "{}"}})", std::string(258, 'a'))});
    expect_schema(object(R"({"type": "string", "maxLength": 65536})"),
                  {fmt::format(R"({{"x": "{}"}})", std::string(500, 'a'))}, {R"({"x": 1})"});
    expect_schema(object(R"({"type": "string", "pattern": "^\\d{5}$"})"), {R"({"x": "01234"})"},
                  {R"({"x": "0123"})", R"({"x": "012345"})"});
    expect_schema(object(R"({"type": "string", "format": "email"})"), {R"({"x": "a.b@example.org"})"},
                  {R"({"x": "a.b"})"});
    expect_schema(R"({"type": "object", "properties": {"l": {"type": "string"}, "r": {"$ref": "#/properties/l"}},
                      "required": ["l", "r"], "additionalProperties": false})",
                  {R"({"l": "a", "r": "b"})"}, {R"({"l": "a", "r": 1})", R"({"l": "a"})"});
    expect_schema(R"({"allOf": [{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
                                {"type": "object", "properties": {"b": {"type": "string"}}, "required": ["b"]}]})",
                  {R"({"a": 1, "b": "x"})"}, {R"({"a": 1})", R"({"b": "x"})"});
    expect_schema(
        R"({"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "minItems": 2, "maxItems": 2})",
        {R"([1, "a"])"}, {R"(["a", 1])", "[1]", R"([1, "a", 2])"});
}

TEST(JsonSchema, OfOneOfExactlyOneIsValid) {
    expect_schema(R"({"oneOf": [{"type": "integer"}, {"type": "string"}]})", {"1", R"("a")"}, {"null"});
    expect_schema(R"({"oneOf": [{"const": 0}, {"const": 1}]})", {"0", "1"}, {"2"});
    expect_schema(R"({"oneOf": [{"type": "string", "pattern": "^a"}, {"type": "string", "pattern": "^b"}]})",
                  {R"("ax")", R"("b")"}, {R"("c")"});
    const std::string overlapping = R"({"oneOf": [{"type": "integer"}, {"type": "integer", "minimum": 0}]})";
    for (const bool lenient : {false, true}) {
        const auto made = Constraint::json_schema(overlapping, lenient);
        ASSERT_FALSE(made);
        EXPECT_EQ(made.error().message,
                  "oneOf cannot be enforced here, because a value may be valid for several of its schemas");
    }
}

TEST(JsonSchema, AKeywordThatCannotBeEnforcedIsRefusedOrIgnoredByName) {
    const std::string schema = R"({"type": "object", "properties": {"a": {"type": "integer", "not": {"const": 1}},
        "b": {"type": "string", "format": "color"}, "c": {"type": "array", "uniqueItems": true}}, "required": ["a"]})";
    const auto strict = Constraint::json_schema(schema);
    ASSERT_FALSE(strict);
    EXPECT_EQ(strict.error().message, R"(these keywords cannot be enforced: ["not"])");
    const auto lenient = Constraint::json_schema(schema, true);
    ASSERT_TRUE(lenient) << lenient.error().message;
    EXPECT_EQ(lenient->not_enforced(), (std::vector<std::string>{"format color", "not", "uniqueItems"}));
    expect(lenient, {R"({"a": 1, "b": "x"})"}, {R"({"a": "x"})"});
    EXPECT_TRUE(Constraint::json_schema(R"({"type": "integer"})", true)->not_enforced().empty());
}

TEST(JsonSchema, AnExpressionThatCannotBeEnforcedIsLeftOutIfLenient) {
    // The property named pattern stays.
    const std::string schema = R"({"type": "object", "properties": {"pattern": {"type": "string", "pattern": "^a\\b"}},
        "required": ["pattern"], "additionalProperties": false})";
    EXPECT_FALSE(Constraint::json_schema(schema));
    const auto lenient = Constraint::json_schema(schema, true);
    ASSERT_TRUE(lenient) << lenient.error().message;
    EXPECT_TRUE(std::ranges::contains(lenient->not_enforced(), "pattern"));
    expect(lenient, {R"({"pattern": "a"})", R"({"pattern": "b"})"}, {R"({"pattern": 1})", "{}"});
}

TEST(JsonSchema, WhatIsNoSchemaIsSaid) {
    const auto error = [](const std::string& schema) {
        const auto made = Constraint::json_schema(schema);
        return made ? std::string("accepted") : made.error().message;
    };
    EXPECT_EQ(error("[1]"), "the schema must be an object or a boolean");
    // llguidance would recurse without end.
    EXPECT_EQ(error(R"({"type": "integer", "minimum": -9223372036854775808, "maximum": -9223372036854775808})"),
              "a number in it is beyond what can be enforced");
    EXPECT_EQ(error("{\"type\": \"integer\""),
              "the schema is not JSON: EOF while parsing an object at line 1 column 18");
    EXPECT_EQ(error("\xFF"), "the constraint is not UTF-8");
    EXPECT_EQ(error("{\"type\": \"text\"}"), "Invalid type: text");
    EXPECT_TRUE(error("{\"$ref\": \"#/nowhere\"}").contains("#/nowhere"));
    EXPECT_EQ(error(std::string((1 << 20) + 1, ' ')), "it has 1048577 bytes, and at most 1048576 are accepted");
    const std::string deep = fmt::format("{{\"const\": {}1{}}}", std::string(10'000, '['), std::string(10'000, ']'));
    EXPECT_TRUE(error(deep).contains("recursion limit"));
}

TEST(JsonSchema, LimitsCannotBeSwitchedOff) {
    expect_schema(R"({"x-guidance": {"lenient": true, "whitespace_pattern": "x+"}, "type": "array", "maxItems": 0})",
                  {"[]", "[ ]"}, {"[x]"});
    EXPECT_FALSE(Constraint::json_schema(R"({"x-guidance": {"lenient": true}, "not": {}})"));
}

TEST(JsonSchema, WhiteSpaceIsAsModelsWriteItAndBounded) {
    const std::string schema = R"({"type": "array", "items": {"type": "integer"}, "maxItems": 2})";
    const auto line = [](size_t n) { return "[1,\n" + std::string(n, ' ') + "2]"; };
    expect_schema(schema, {"[1,2]", "[1, 2]", "[\n  1,\n  2\n]", "[1,\r\n\t2]", line(40)},
                  {line(41), " [1]", "[1,   2]", "[1,\n\n2]"});
}

TEST(JsonSchema, EverythingDrawnIsValid) {
    std::mt19937 random(1);
    const auto constraint = Constraint::json_schema(
        R"({"type": "object", "properties": {"n": {"type": "integer", "minimum": 10, "maximum": 20},
            "s": {"enum": ["one", "two"]}, "t": {"type": "string", "maxLength": 4}}, "required": ["n", "s", "t"],
            "additionalProperties": false})");
    int n_ended = 0;
    for (int i = 0; i < 20; i++) {
        const auto [text, ended] = drawn(constraint, random, 400);
        n_ended += ended ? 1 : 0;
        if (!ended) continue;
        EXPECT_TRUE(is_utf8(text)) << text;
        EXPECT_TRUE(accepts(constraint, text)) << text;
    }
    EXPECT_GT(n_ended, 10);
}

TEST(Guide, ExpressionsAndGrammarsInLark) {
    expect(Constraint::regex("[a-c]+(-[0-9]{2})?"), {"a", "abc-12"}, {"", "d", "a-1", "a-123"});
    expect(Constraint::regex("é|日本"), {"é", "日本"}, {"e", "日"});
    const auto sum = Constraint::lark("start: NUMBER (\"+\" NUMBER)*\nNUMBER: /[0-9]+/\n");
    expect(sum, {"1", "12+3+4"}, {"", "+", "1+"});
    const auto wrong = Constraint::regex("a(");
    ASSERT_FALSE(wrong);
    EXPECT_EQ(wrong.error().message, "at 1(8): invalid regex \"a(\" (in regex): regex parse error: unclosed group");
    const auto no_start = Constraint::lark("rule: \"a\"\n");
    ASSERT_FALSE(no_start);
    EXPECT_TRUE(no_start.error().message.contains("start")) << no_start.error().message;
}

TEST(Guide, TokensThatAreNotAllowedAreMasked) {
    const auto restriction = begin(Constraint::regex("yes|no"));
    std::vector<llama_token_data> data;
    for (int32_t token = 0; token < vocabulary().n_tokens(); token++) data.push_back({.id = token, .logit = 1, .p = 0});
    llama_token_data_array all{.data = data.data(), .size = data.size(), .selected = -1, .sorted = false};
    restriction->restrict(all);
    for (const auto& candidate : data) {
        const auto piece = vocabulary().piece(candidate.id);
        const bool fits =
            !piece.empty() && (std::string_view("yes").starts_with(piece) || std::string_view("no").starts_with(piece));
        EXPECT_EQ(candidate.logit == 1, fits) << piece;
        EXPECT_EQ(restriction->allows(candidate.id), fits) << piece;
    }
    EXPECT_FALSE(restriction->allows(-1));
    EXPECT_FALSE(restriction->allows(vocabulary().n_tokens()));
}

TEST(Guide, ATextEndsWhereItMay) {
    const auto restriction = begin(Constraint::regex("a{1,2}"));
    EXPECT_FALSE(restriction->end());
    ASSERT_TRUE(begins(*restriction, "a"));
    ASSERT_TRUE(restriction->end());
    EXPECT_TRUE(vocabulary().is_end_of_generation(*restriction->end()));
    EXPECT_TRUE(restriction->allows(*restriction->end()));
    ASSERT_TRUE(begins(*restriction, "a"));
    EXPECT_FALSE(begins(*restriction, "a"));
}

TEST(Guide, AfterAnErrorNothingIsAllowed) {
    const auto restriction = begin(Constraint::regex("ab"));
    const auto tokens = tokens_of("x");
    EXPECT_FALSE(restriction->accept(tokens[0]));
    EXPECT_FALSE(restriction->failure().empty());
    EXPECT_FALSE(begins(*restriction, "ab"));
    EXPECT_FALSE(restriction->end());
}

TEST(Guide, TextsOfOneConstraintDoNotKnowEachOther) {
    const auto constraint =
        Constraint::json_schema(R"({"type": "array", "items": {"enum": ["red", "green", "blue"]}})");
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; t++) {
        threads.emplace_back([&] {
            for (int i = 0; i < 50; i++) {
                EXPECT_TRUE(accepts(constraint, R"(["red", "blue"])"));
                EXPECT_FALSE(accepts(constraint, R"(["red", "white"])"));
            }
        });
    }
}

/// A thousand long strings are allowed; a mask is still a matter of milliseconds.
TEST(Guide, AnEnumOfAThousandStringsStaysUsable) {
    std::string strings;
    std::mt19937 random(2);
    for (int i = 0; i < 1000; i++)
        strings += fmt::format("{}\"value {} of {}\"", i == 0 ? "" : ",", random(), random() % 1000);
    const auto constraint = Constraint::json_schema(fmt::format("{{\"enum\": [{}]}}", strings));
    const auto [text, ended] = drawn(constraint, random, 100);
    EXPECT_TRUE(ended);
    EXPECT_TRUE(strings.contains(text));
}

TEST(Guide, AConstraintThatIsTooLargeIsRefused) {
    for (const auto& constraint :
         {Constraint::regex("(a|b|c){1,1000}(.{1,1000}x){1000}y"),
          Constraint::json_schema(
              R"({"type": "array", "items": {"type": "array", "items": {"type": "integer"}, "minItems": 5000,
              "maxItems": 9000}, "minItems": 5000, "maxItems": 900000})"),
          Constraint::lark("start: (a{500}){500}\na: \"x\" | \"y\" a\n")}) {
        if (constraint) {
            const auto begun = constraint->rule().begin(vocabulary());
            if (begun) continue;
            EXPECT_FALSE(begun.error().message.empty());
        } else {
            EXPECT_FALSE(constraint.error().message.empty());
        }
    }
}

}  // namespace
}  // namespace cake
