#include "text/json_schema.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <format>
#include <nlohmann/json.hpp>
#include <random>

#include "text/grammar.hpp"
#include "text/grammar_reader.hpp"
#include "text/utf8.hpp"

namespace cake {
namespace {

using Json = nlohmann::ordered_json;

GrammarReader reader_of(const std::string& schema) {
    const auto grammar = grammar_of_schema(schema);
    EXPECT_TRUE(grammar) << schema << "\n" << grammar.error().message;
    return GrammarReader(grammar ? grammar->gbnf() : "root ::= \"\\x01\"");
}

void expect(const std::string& schema, const std::vector<std::string>& allowed,
            const std::vector<std::string>& others) {
    SCOPED_TRACE(schema);
    auto reader = reader_of(schema);
    for (const auto& text : allowed) EXPECT_TRUE(reader.accepts(text)) << text;
    for (const auto& text : others) EXPECT_FALSE(reader.accepts(text)) << text;
}

void expect_error(const std::string& schema, const std::string& message) {
    const auto grammar = grammar_of_schema(schema);
    ASSERT_FALSE(grammar) << schema;
    EXPECT_EQ(grammar.error().message, message) << schema;
}

TEST(JsonSchema, ATypeAllowsItsValuesAlone) {
    const std::vector<std::pair<std::string, std::vector<std::string>>> values = {
        {"string", {R"("")", R"("a")"}},   {"integer", {"0", "-7", "12"}},
        {"boolean", {"true", "false"}},    {"null", {"null"}},
        {"object", {"{}", R"({"a": 1})"}}, {"array", {"[]", R"([1, "a"])"}}};
    for (const auto& [type, allowed] : values) {
        std::vector<std::string> others = {"", "x", "tru", "{", "[", "\"", "0 ", " 0"};
        for (const auto& [other, texts] : values) {
            if (other != type) others.insert(others.end(), texts.begin(), texts.end());
        }
        expect(std::format(R"({{"type": "{}"}})", type), allowed, others);
    }
}

TEST(JsonSchema, ANumberIsWrittenAsJsonWritesIt) {
    expect(R"({"type": "number"})", {"0", "-0", "1.5", "-12.25e-3", "1E+9", "12345678901234567890"},
           {"01", "1.", ".5", "+1", "1e", "NaN", "Infinity", "0x1", "--1", "123456789012345678901"});
    expect(R"({"type": "integer"})", {"0", "-1", "10", "98765432109876543210"}, {"-0", "00", "1.0", "1e3", "-", ""});
}

TEST(JsonSchema, AStringIsEverythingThatJsonCanWrite) {
    expect(R"({"type": "string"})",
           {R"("")", R"("é日本𝄞")", R"("\"\\\/\b\f\n\r\t")", R"("\u00e9\uD834\uDD1E")", "\"\x7f\"", R"("a' <&>")"},
           {"\"a\nb\"", "\"\t\"", "\"\x1f\"", R"("\x41")", R"("\u12")", R"("\uD834")", R"("\uDD1E")", R"("\")", "'a'",
            R"("a"b")"});
}

TEST(JsonSchema, SeveralTypesAllowEach) {
    expect(R"({"type": ["string", "null"]})", {"null", R"("a")"}, {"1", "true", "nul"});
    expect(R"({"type": ["string", "integer", "null"], "maxLength": 1, "minimum": 5})", {"null", R"("a")", "5"},
           {R"("ab")", "4"});
    expect(R"({"type": ["integer", "number"]})", {"1", "1.5"}, {"true"});
}

TEST(JsonSchema, WithoutATypeTheKeywordsSayIt) {
    expect("{}", {"1", R"({"a": [null]})", R"("x")"}, {"", "x"});
    expect("true", {"1", "[]"}, {""});
    expect(R"({"title": "anything"})", {"1", "[]"}, {""});
    expect(R"({"properties": {"a": {"type": "null"}}})", {"{}", R"({"a": null})"},
           {"1", R"({"a": 1})", R"({"b": null})"});
    expect(R"({"items": {"type": "null"}})", {"[]", "[null]"}, {"1", "[1]"});
    expect(R"({"minLength": 1})", {R"("a")"}, {R"("")", "1"});
}

TEST(JsonSchema, WhiteSpaceIsAsModelsWriteItAndBounded) {
    const std::string schema =
        R"({"type": "object", "properties": {"a": {"type": "array", "items": {"type": "integer"}},
                                   "b": {"type": "object"}}, "required": ["a", "b"]})";
    expect(schema,
           {R"({"a":[1,2],"b":{}})", R"({"a": [1, 2], "b": {"c": 1}})", R"({ "a": [ 1, 2 ], "b": { "c": 1 } })",
            "{\n  \"a\": [\n    1,\n    2\n  ],\n  \"b\": {\n    \"c\": 1\n  }\n}", "{\n\t\"a\": [],\n\t\"b\": {}\n}"},
           {R"({"a" : [1,2],"b":{}})", R"({"a":  [1,2],"b":{}})", R"({"a":[1 ,2],"b":{}})", R"({"a":[1,  2],"b":{}})",
            " {\"a\":[1],\"b\":{}}", "{\"a\":[1],\"b\":{}} ", "{\"a\":[1],\"b\":{}}\n", "{\n\n\"a\":[1],\"b\":{}}"});
    auto reader = reader_of(schema);
    EXPECT_TRUE(reader.begins("{\n" + std::string(32, ' ')));
    EXPECT_FALSE(reader.begins("{\n" + std::string(33, ' ')));
}

TEST(JsonSchema, EverySubsetOfOptionalPropertiesIsAllowedInOrder) {
    for (const bool others : {false, true}) {
        for (unsigned required = 0; required < 16; required++) {
            Json schema = {{"type", "object"}, {"properties", Json::object()}, {"required", Json::array()}};
            schema["additionalProperties"] = others;
            for (unsigned i = 0; i < 4; i++) {
                const std::string name(1, static_cast<char>('a' + i));
                schema["properties"][name] = {{"type", "integer"}};
                if ((required >> i & 1U) != 0) schema["required"].push_back(name);
            }
            auto reader = reader_of(schema.dump());
            for (unsigned there = 0; there < 16; there++) {
                Json object = Json::object();
                for (unsigned i = 0; i < 4; i++) {
                    if ((there >> i & 1U) != 0) object[std::string(1, static_cast<char>('a' + i))] = i;
                }
                SCOPED_TRACE(schema.dump() + object.dump());
                const bool complete = (there & required) == required;
                EXPECT_EQ(reader.accepts(object.dump()), complete);
                object["e"] = "more";
                EXPECT_EQ(reader.accepts(object.dump()), complete && others);
            }
            EXPECT_FALSE(reader.accepts(R"({"b":1,"a":0,"c":2,"d":3})"));
            EXPECT_FALSE(reader.accepts(R"({"a":0,"a":0,"b":1,"c":2,"d":3})"));
            EXPECT_FALSE(reader.accepts(R"({"a":0,"b":1,"c":2,"d":3,})"));
            EXPECT_FALSE(reader.accepts("{,}"));
        }
    }
}

TEST(JsonSchema, OtherPropertiesHaveTheirSchemaAndNoListedName) {
    const std::string schema = R"({"type": "object", "properties": {"a": {"type": "integer"}, "ab": {"type": "integer"},
        "q\"\\\n\u0001/é": {"type": "integer"}}, "additionalProperties": {"type": "string"}})";
    expect(
        schema,
        {R"({})", R"({"a":1,"ab":2,"q\"\\\n\u0001/é":3})", R"({"a":1,"b":"x","":"y"})", R"({"abc":"x"})",
         R"({"aa":"x"})", R"({"q":"x","q\"":"x","q\"\\\n\u0001/è":"x","q\"\\\n\u0001/éé":"x"})", R"({"q\n":"x"})",
         R"({"b\u0061":"x"})"},
        {R"({"a":"x"})", R"({"ab":"x"})", R"({"b":1})", R"({"b":"x","a":1})", R"({"\u0061":"x"})", R"({"a\u0062":"x"})",
         R"({"q\"\\\n\u0001/é":"x"})", R"({"q\"\\\n\u0001\/é":"x"})", R"({"q\"\\\n\u0001/\u00e9":"x"})"});
    expect(R"({"type": "object"})", {R"({"anything": [{}]})"}, {"[]"});
    expect(R"({"type": "object", "additionalProperties": {"type": "null"}})", {"{}", R"({"a":null,"b":null})"},
           {R"({"a":1})"});
    expect(R"({"type": "object", "additionalProperties": false})", {"{}", "{ }"}, {R"({"a":1})"});
    expect(R"({"type": "object", "required": ["x"], "additionalProperties": {"type": "null"}})",
           {R"({"x":null})", R"({"x":null,"y":null})"}, {"{}", R"({"y":null})"});
}

TEST(JsonSchema, APropertyOfFalseMayNotBeThere) {
    expect(R"({"properties": {"a": false, "b": true}, "additionalProperties": true})", {"{}", R"({"b":1,"c":2})"},
           {R"({"a":1})", R"({"b":1,"a":1})"});
}

TEST(JsonSchema, EnumAndConstAllowTheirValuesInOneSpelling) {
    const std::string odd =
        R"(["a", "ab", "quote\"", "back\\slash", "line\nbreak", "tab\t", "\u0001", "é日𝄞", "", "[]^-"])";
    const auto values = Json::parse(odd);
    std::vector<std::string> allowed;
    for (const auto& value : values) allowed.push_back(value.dump());
    expect(R"({"enum": )" + odd + "}", allowed,
           {R"("b")", R"("abc")", R"("a)", R"("A")", R"("\u0061")", "a", R"("line\\nbreak")"});
    expect(R"({"enum": [1, -2.5, true, null, "x", {"a": [1, {}], "b": "c"}, []]})",
           {"1", "-2.5", "true", "null", R"("x")", R"({"a":[1,{}],"b":"c"})", R"({"a": [1, {}], "b": "c"})", "[]"},
           {"2", "-2", "false", R"({"a":[1],"b":"c"})", R"({"b":"c","a":[1,{}]})", "{}", "[1]"});
    expect(R"({"const": "a\"b"})", {R"("a\"b")"}, {R"("a")", R"("ab")"});
    expect(R"({"const": null})", {"null"}, {"", "0"});
    expect(R"({"type": ["string", "null"], "enum": ["a", 1, null]})", {R"("a")", "null"}, {"1"});
    expect(R"({"type": "integer", "enum": [1, 2.0, 2.5, "2"]})", {"1", "2.0"}, {"2.5", R"("2")"});
}

TEST(JsonSchema, LengthsCountCharacters) {
    expect(R"({"type": "string", "minLength": 2, "maxLength": 3})",
           {R"("ab")", R"("日本語")", R"("\n\"x")", R"("\uD834\uDD1E𝄞")", R"("\u0041b")"},
           {R"("a")", R"("abcd")", R"("")", R"("\uD834\uDD1E")"});
    expect(R"({"type": "string", "minLength": 2})", {R"("ab")", R"("abcdefghijklmnop")"}, {R"("a")"});
    expect(R"({"type": "string", "maxLength": 0})", {R"("")"}, {R"("a")"});
    auto reader = reader_of(R"({"type": "string", "minLength": 255, "maxLength": 256})");
    for (const size_t n : {254U, 255U, 256U, 257U}) {
        EXPECT_EQ(reader.accepts('"' + std::string(n, 'x') + '"'), n == 255 || n == 256) << n;
    }
}

TEST(JsonSchema, NumbersOfItemsAreExact) {
    for (int least = -1; least <= 4; least++) {
        for (int most = -1; most <= 4; most++) {
            if (least >= 0 && most >= 0 && least > most) continue;
            Json schema = {{"type", "array"}, {"items", {{"const", 1}}}};
            if (least >= 0) schema["minItems"] = least;
            if (most >= 0) schema["maxItems"] = most;
            SCOPED_TRACE(schema.dump());
            auto reader = reader_of(schema.dump());
            for (int n = 0; n <= 6; n++) {
                const bool allowed = n >= least && (most < 0 || n <= most);
                EXPECT_EQ(reader.accepts(Json(std::vector<int>(static_cast<size_t>(n), 1)).dump()), allowed) << n;
            }
        }
    }
    auto reader = reader_of(R"({"type": "array", "items": {"const": 1}, "minItems": 256, "maxItems": 256})");
    for (const size_t n : {255U, 256U, 257U}) EXPECT_EQ(reader.accepts(Json(std::vector(n, 1)).dump()), n == 256) << n;
}

TEST(JsonSchema, FirstItemsHaveASchemaEach) {
    for (const std::string items : {"", "false", "3"}) {
        for (int least = 0; least <= 5; least++) {
            for (int most = least; most <= 6; most++) {
                if (items != "3" && least > 3) continue;
                Json schema = {{"prefixItems", {{{"const", 0}}, {{"const", 1}}, {{"const", 2}}}}};
                if (items == "false") schema["items"] = false;
                if (items == "3") schema["items"] = {{"const", 3}};
                if (least > 0) schema["minItems"] = least;
                if (most < 6) schema["maxItems"] = most;
                SCOPED_TRACE(schema.dump());
                auto reader = reader_of(schema.dump());
                std::vector<int> array;
                for (int n = 0; n <= 7; n++) {
                    const bool allowed = n >= least && (most == 6 || n <= most) && (items == "3" || n <= 3);
                    EXPECT_EQ(reader.accepts(Json(array).dump()), allowed) << n;
                    array.push_back(std::min(n, 3));
                }
                EXPECT_FALSE(reader.accepts("[1]"));
            }
        }
    }
}

TEST(JsonSchema, IntegersWithinSmallBoundsAreExact) {
    const auto seed = std::random_device()();
    SCOPED_TRACE(std::format("seed {}", seed));
    std::mt19937 random(seed);
    std::uniform_int_distribution<int> draw(-140, 140);
    for (int round = 0; round < 24; round++) {
        int least = draw(random);
        int most = draw(random);
        if (least > most) std::swap(least, most);
        const int sides = round % 3;  // 0: both limits; 1: only the maximum; 2: only the minimum
        Json schema = {{"type", "integer"}};
        if (sides != 1) schema[round % 2 == 0 ? "minimum" : "exclusiveMinimum"] = round % 2 == 0 ? least : least - 1;
        if (sides != 2) schema[round % 4 < 2 ? "maximum" : "exclusiveMaximum"] = round % 4 < 2 ? most : most + 1;
        SCOPED_TRACE(schema.dump());
        auto reader = reader_of(schema.dump());
        for (int number = -1100; number <= 1100; number += std::abs(number) < 160 ? 1 : 47) {
            const bool allowed = (sides == 1 || number >= least) && (sides == 2 || number <= most);
            ASSERT_EQ(reader.accepts(std::to_string(number)), allowed) << number;
        }
        for (const std::string text : {"-0", "00", "01", "-01", "+1", "1.0", "1e2", "", "-"})
            ASSERT_FALSE(reader.accepts(text)) << text;
    }
}

TEST(JsonSchema, IntegersWithinLargeBoundsAreExactAtTheEdges) {
    const auto seed = std::random_device()();
    SCOPED_TRACE(std::format("seed {}", seed));
    std::mt19937_64 random(seed);
    const auto draw = [&] {
        const auto scale = static_cast<int64_t>(std::pow(10, std::uniform_int_distribution<int>(0, 15)(random)));
        return std::uniform_int_distribution<int64_t>(-scale, scale)(random);
    };
    for (int round = 0; round < 30; round++) {
        int64_t least = draw();
        int64_t most = draw();
        if (least > most) std::swap(least, most);
        const Json schema = {{"type", "integer"}, {"minimum", least}, {"maximum", most}};
        SCOPED_TRACE(schema.dump());
        auto reader = reader_of(schema.dump());
        std::vector<int64_t> numbers = {0, 1, -1, 10, -10, 99, -99, -least, -most, most * 10, least * 10};
        for (const int64_t edge : {least, most}) {
            for (const int64_t d : {-11, -10, -2, -1, 0, 1, 2, 10, 11}) numbers.push_back(edge + d);
        }
        for (int i = 0; i < 30; i++) numbers.push_back(draw());
        for (const int64_t number : numbers)
            ASSERT_EQ(reader.accepts(std::to_string(number)), number >= least && number <= most) << number;
    }
}

TEST(JsonSchema, BoundsBetweenIntegersAreRoundedInwards) {
    expect(R"({"type": "integer", "minimum": -1.5, "maximum": 1.5})", {"-1", "0", "1"}, {"-2", "2"});
    expect(R"({"type": "integer", "exclusiveMinimum": -1.5, "exclusiveMaximum": 2.0})", {"-1", "1"}, {"-2", "2"});
    expect(R"({"type": "integer", "minimum": 0, "exclusiveMinimum": 3, "maximum": 9, "exclusiveMaximum": 6})",
           {"4", "5"}, {"3", "6"});
    expect(R"({"type": "integer", "minimum": 1e15})", {"1000000000000000", "99999999999999999999"},
           {"999999999999999"});
}

TEST(JsonSchema, FormatsAreExact) {
    auto dates = reader_of(R"({"type": "string", "format": "date"})");
    constexpr int kDays[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    for (const int year : {0, 4, 1900, 2000, 2023, 2024, 2100, 9996}) {
        const bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
        for (int month = 0; month <= 13; month++) {
            for (const int day : {0, 1, 9, 10, 19, 20, 28, 29, 30, 31, 32}) {
                const bool there =
                    month >= 1 && month <= 12 && day >= 1 && day <= kDays[month - 1] + (month == 2 && leap ? 1 : 0);
                const auto text = std::format("\"{:04}-{:02}-{:02}\"", year, month, day);
                ASSERT_EQ(dates.accepts(text), there) << text;
            }
        }
    }
    expect(R"({"type": "string", "format": "time"})", {R"("23:59:59Z")", R"("00:00:00.123+05:30")"},
           {R"("24:00:00Z")", R"("12:60:00Z")", R"("12:00:00")", R"("12:00Z")"});
    expect(R"({"format": "date-time"})", {R"("2024-02-29T12:30:00Z")"},
           {R"("2023-02-29T12:30:00Z")", R"("2024-02-29")"});
    expect(R"({"format": "uuid"})", {R"("123e4567-e89b-12d3-a456-426614174000")"},
           {R"("123e4567e89b12d3a456426614174000")", R"("123e4567-e89b-12d3-a456-42661417400g")"});
}

TEST(JsonSchema, AnyOfAndOneOfAllowEach) {
    for (const std::string keyword : {"anyOf", "oneOf"}) {
        expect(
            std::format(R"({{"{}": [{{"type": "integer"}}, {{"type": "null"}}, false, {{"const": "x"}}]}})", keyword),
            {"1", "null", R"("x")"}, {"true", R"("y")"});
    }
    expect(R"({"allOf": [{"type": "null"}], "title": "t"})", {"null"}, {"1"});
}

TEST(JsonSchema, ReferencesMayRecur) {
    const std::string tree = R"({"$ref": "#/$defs/tree", "$defs": {"tree": {"type": "object", "properties":
        {"v": {"type": "integer"}, "kids": {"type": "array", "items": {"$ref": "#/$defs/tree"}}}, "required": ["v"]}}})";
    expect(tree, {R"({"v":1})", R"({"v":1,"kids":[{"v":2},{"v":3,"kids":[{"v":4}]}]})"},
           {"{}", R"({"v":1,"kids":[1]})", R"({"v":1,"kids":[{"kids":[]}]})"});
    expect(
        R"({"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}, "required": ["next"]})",
        {R"({"next":null})", R"({"next":{"next":null}})"}, {R"({"next":{}})"});
    expect(R"({"items": {"$ref": "#/definitions/a~1b~0"}, "definitions": {"a/b~": {"type": "null"}}})", {"[null]"},
           {"[1]"});
    expect(R"({"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/b"}, {"type": "null"}]}, "b": {"items":
        {"$ref": "#/$defs/a"}}}})",
           {"null", "[[null]]"}, {"1"});
}

TEST(JsonSchema, AnyJsonObjectIsAnObjectOfAnything) {
    GrammarReader reader(grammar_of_any_json_object().gbnf());
    for (const std::string text :
         {"{}", R"({"a": [1, -2.5e3, {"b": null}], "c": "d\n", "e": true})", "{\n  \"a\": 1\n}"})
        EXPECT_TRUE(reader.accepts(text)) << text;
    for (const std::string text : {"", "1", "[]", "{", R"({"a"})", R"({a: 1})", R"({"a": 1,})", "{} ", " {}"})
        EXPECT_FALSE(reader.accepts(text)) << text;
    EXPECT_TRUE(check_grammar(grammar_of_any_json_object().gbnf()));
}

TEST(JsonSchema, WhatTheGrammarAllowsIsJson) {
    // Generate random texts token by token. A complete text must be valid for another parser.
    const auto seed = std::random_device()();
    SCOPED_TRACE(std::format("seed {}", seed));
    std::mt19937 random(seed);
    const auto grammar = grammar_of_schema(
        R"({"type": "object", "properties": {"a": {"type": "array", "items": {"type": "number"}, "maxItems": 3}, "b": {"enum":
            ["x\"y", null, {"k": [1]}]}, "c": {"type": "string", "maxLength": 6}, "d": {"type": "integer", "minimum": -5,
            "maximum": 120}}, "required": ["b"], "additionalProperties": {"type": "boolean"}})");
    ASSERT_TRUE(grammar) << grammar.error().message;
    const auto* vocab = test_vocabulary();
    int n_ended = 0;
    for (int round = 0; round < 20; round++) {
        auto text_grammar = Grammar::create(vocab, *grammar);
        ASSERT_TRUE(text_grammar);
        std::string text;
        for (int i = 0; i < 300; i++) {
            std::vector<llama_token_data> data;
            for (int32_t token = 0; token < llama_vocab_n_tokens(vocab); token++)
                data.push_back({.id = token, .logit = 0, .p = 0});
            llama_token_data_array candidates{
                .data = data.data(), .size = data.size(), .selected = -1, .sorted = false};
            text_grammar->restrict(candidates);
            std::vector<llama_token> allowed;
            bool may_end = false;
            for (const auto& candidate : data) {
                if (candidate.logit != 0) continue;
                allowed.push_back(candidate.id);
                may_end = may_end || llama_vocab_is_eog(vocab, candidate.id);
            }
            ASSERT_FALSE(allowed.empty()) << text;
            if (may_end) {
                const auto object = Json::parse(text, nullptr, false);
                ASSERT_TRUE(object.is_object()) << testing::PrintToString(text);
                ASSERT_TRUE(object.contains("b")) << text;
                n_ended++;
                break;
            }
            // libllama accepts some tokens that are not valid UTF-8; draw another one.
            std::string piece;
            llama_token token = 0;
            do {
                token = allowed[std::uniform_int_distribution<size_t>(0, allowed.size() - 1)(random)];
                piece.assign(64, '\0');
                piece.resize(static_cast<size_t>(llama_token_to_piece(vocab, token, piece.data(), 64, 0, false)));
            } while (!is_utf8(piece));
            ASSERT_TRUE(text_grammar->accept(token)) << text;
            text += piece;
        }
    }
    EXPECT_GT(n_ended, 2);
}

/// Draws random schemas, and values that are valid or nearly valid for them.
class Drawing {
  public:
    explicit Drawing(uint32_t seed) : random_(seed) {}

    int number(int n) { return std::uniform_int_distribution<int>(0, n - 1)(random_); }

    Json schema(int depth) {
        switch (number(depth > 0 ? 9 : 5)) {
            case 0:
                return {{"type", "integer"}, {"minimum", number(4) - 2}, {"maximum", number(30) + 2}};
            case 1:
                return {{"type", {"string", "null"}}, {"minLength", number(2)}, {"maxLength", 1 + number(3)}};
            case 2:
                return {{"enum", {"a", "ab", number(3), nullptr, {{"k", number(2)}}}}};
            case 3:
                return {{"type", "boolean"}};
            case 4:
                return depth > 0 ? Json({{"$ref", "#"}}) : Json({{"const", "a"}});
            case 5:
                return {{"anyOf", {schema(depth - 1), {{"type", "null"}}}}};
            case 6: {
                Json result = {{"type", "array"}, {"minItems", number(2)}, {"maxItems", 1 + number(3)}};
                if (number(2) == 0) result["prefixItems"] = {schema(depth - 1), schema(depth - 1)};
                if (number(2) == 0 || !result.contains("prefixItems")) result["items"] = schema(depth - 1);
                return result;
            }
            default:
                return object(depth);
        }
    }

    Json object(int depth) {
        Json result = {{"type", "object"}, {"properties", Json::object()}, {"required", Json::array()}};
        for (const std::string name : {"a", "ab", "b", "c\"d"}) {
            if (number(3) == 0) continue;
            result["properties"][name] = schema(depth - 1);
            if (number(2) == 0 && !result["properties"][name].contains("$ref")) result["required"].push_back(name);
        }
        if (number(2) == 0) result["additionalProperties"] = number(2) == 0 ? Json(false) : schema(0);
        return result;
    }

    Json any(int depth) {
        switch (number(depth > 0 ? 8 : 6)) {
            case 0:
                return number(40) - 4;
            case 1:
                return std::string(static_cast<size_t>(number(5)), 'a');
            case 2:
                return number(2) == 0 ? "ab" : "b";
            case 3:
                return nullptr;
            case 4:
                return number(2) == 0;
            case 5:
                return {{"k", number(2)}};
            case 6:
                return Json::array({any(depth - 1), any(depth - 1)});
            default:
                return {{"a", any(depth - 1)}};
        }
    }

    Json value(const Json& schema, const Json& root, int depth) {
        if (number(12) == 0 || depth == 0) return any(1);
        if (schema.contains("$ref")) return value(root, root, depth - 1);
        if (schema.contains("anyOf")) return value(schema["anyOf"][number(2) == 0 ? 0 : 1], root, depth - 1);
        if (schema.contains("enum")) return schema["enum"][static_cast<size_t>(number(5))];
        if (schema.contains("const") || schema["type"].is_array()) return number(4) == 0 ? Json() : Json("a");
        if (schema["type"] == "null") return nullptr;
        if (schema["type"] == "integer") return number(34) - 3;
        if (schema["type"] == "boolean") return number(2) == 0;
        if (schema["type"] == "array") {
            Json result = Json::array();
            for (int n = number(5), i = 0; i < n; i++) {
                const auto at = static_cast<size_t>(i);
                const bool is_first = schema.contains("prefixItems") && i < 2;
                const Json item = is_first ? schema["prefixItems"][at] : schema.value("items", Json::object());
                result.push_back(item.empty() ? any(1) : value(item, root, depth - 1));
            }
            return result;
        }
        Json result = Json::object();
        for (const auto& [name, property] : schema["properties"].items()) {
            const bool is_required = std::ranges::contains(schema["required"], Json(name));
            if (number(8) < (is_required ? 7 : 4)) result[name] = value(property, root, depth - 1);
        }
        if (number(5) == 0) result["zz"] = any(0);
        return result;
    }

  private:
    std::mt19937 random_;
};

/// Whether a value is valid by the definition of each keyword. Properties that are not listed, and items after
/// prefixItems, are valid only if the schema allows them explicitly.
bool is_valid(const Json& schema, const Json& value, const Json& root) {
    const auto valid = [&](const Json& of, const Json& part) { return is_valid(of, part, root); };
    if (schema.is_boolean()) return schema == true;
    if (schema.contains("$ref")) return valid(root, value);
    if (schema.contains("anyOf")) return valid(schema["anyOf"][0], value) || valid(schema["anyOf"][1], value);
    if (schema.contains("enum")) return std::ranges::contains(schema["enum"], value);
    if (schema.contains("const")) return schema["const"] == value;
    if (schema["type"].is_array() && value.is_null()) return true;
    if (schema["type"].is_array()) {
        if (!value.is_string()) return false;
        const auto length = value.get<std::string>().size();
        return length >= schema["minLength"].get<size_t>() && length <= schema["maxLength"].get<size_t>();
    }
    if (schema["type"] == "integer")
        return value.is_number_integer() && value >= schema["minimum"] && value <= schema["maximum"];
    if (schema["type"] == "null") return value.is_null();
    if (schema["type"] == "boolean") return value.is_boolean();
    if (schema["type"] == "array") {
        if (!value.is_array() || value.size() < schema["minItems"] || value.size() > schema["maxItems"]) return false;
        for (size_t i = 0; i < value.size(); i++) {
            const bool is_first = schema.contains("prefixItems") && i < 2;
            if (!is_first && !schema.contains("items")) return false;
            if (!valid(is_first ? schema["prefixItems"][i] : schema["items"], value[i])) return false;
        }
        return true;
    }
    if (!value.is_object()) return false;
    for (const auto& name : schema["required"]) {
        if (!value.contains(name.get<std::string>())) return false;
    }
    for (const auto& [name, part] : value.items()) {
        const bool is_listed = schema["properties"].contains(name);
        if (!valid(is_listed ? schema["properties"][name] : schema.value("additionalProperties", Json(false)), part))
            return false;
    }
    return true;
}

TEST(JsonSchema, RandomSchemasAllowWhatTheirKeywordsSay) {
    const auto seed = std::random_device()();
    SCOPED_TRACE(std::format("seed {}", seed));
    Drawing drawing(seed);
    int n_valid = 0;
    int n_invalid = 0;
    for (int round = 0; round < 40; round++) {
        const Json root = drawing.object(3);
        const auto grammar = grammar_of_schema(root.dump());
        if (!grammar) {  // a random schema may allow no value, or have alternatives that begin alike
            const auto& message = grammar.error().message;
            EXPECT_TRUE(message.contains("too many ways") || message.contains("allows") ||
                        message.contains("can never end"))
                << root.dump() << message;
            continue;
        }
        GrammarReader reader(grammar->gbnf());
        for (int i = 0; i < 40; i++) {
            const Json value = drawing.value(root, root, 4);
            const bool valid = is_valid(root, value, root);
            ASSERT_EQ(reader.accepts(value.dump()), valid) << root.dump() << "\n" << value.dump();
            (valid ? n_valid : n_invalid)++;
        }
    }
    EXPECT_GT(n_valid, 25);
    EXPECT_GT(n_invalid, 25);
}

TEST(JsonSchema, DamagedSchemasAreRefusedOrGiveAGrammar) {
    const auto seed = std::random_device()();
    SCOPED_TRACE(std::format("seed {}", seed));
    Drawing drawing(seed);
    const std::string good =
        R"({"type":"object","properties":{"a":{"$ref":"#/$defs/x"},"b":{"type":["integer","null"],"minimum":1}},"required":)"
        R"(["a"],"$defs":{"x":{"anyOf":[{"type":"array","items":{"const":"é"},"maxItems":3},{"enum":[1,"2"]}]}}})";
    const std::string bytes = "{}[]\",:0159-ae#/$ \n\xc3";
    for (int round = 0; round < 400; round++) {
        std::string text = good;
        for (int i = 0; i < 1 + drawing.number(3); i++) {
            const auto at = static_cast<size_t>(drawing.number(static_cast<int>(text.size())));
            const char byte = bytes[static_cast<size_t>(drawing.number(static_cast<int>(bytes.size())))];
            switch (drawing.number(3)) {
                case 0:
                    text.erase(at, static_cast<size_t>(1 + drawing.number(12)));
                    break;
                case 1:
                    text.insert(at, 1, byte);
                    break;
                default:
                    text[at] = byte;
            }
        }
        SCOPED_TRACE(text);
        const auto grammar = grammar_of_schema(text);
        if (grammar) {
            EXPECT_TRUE(Grammar::create(test_vocabulary(), *grammar));
        } else {
            EXPECT_FALSE(grammar.error().message.empty());
            EXPECT_TRUE(is_utf8(grammar.error().message));
        }
    }
}

TEST(JsonSchema, AlternativesThatBeginAlikeAgainAndAgainAreRefused) {
    const std::string name(50, 'n');
    const auto branch = [&](const std::string& other) {
        return Json(
            {{"type", "object"}, {"properties", {{name, {{"$ref", "#"}}}, {other, true}}}, {"required", {other}}});
    };
    const auto grammar = grammar_of_schema(Json({{"anyOf", {branch("a"), branch("b"), {{"type", "null"}}}}}).dump());
    ASSERT_FALSE(grammar);
    EXPECT_TRUE(
        grammar.error().message.ends_with("allows too many ways to read one text: make its alternatives begin "
                                          "differently"))
        << grammar.error().message;
}

TEST(JsonSchema, WhatItCannotHoldIsRefusedByName) {
    const auto unsupported = [](const std::string& at, const std::string& keyword) {
        return std::format(
            "the JSON schema at {}: the keyword \"{}\" is not supported: leave it out, and say in the "
            "description what it means",
            at, keyword);
    };
    for (const std::string keyword :
         {"pattern", "not", "if", "patternProperties", "multipleOf", "uniqueItems", "contains", "propertyNames",
          "minProperties", "dependentRequired", "additionalItems", "nullable", "unevaluatedProperties", "requird"}) {
        expect_error(std::format(R"({{"properties": {{"a/b": {{"{}": 1}}}}}})", keyword),
                     unsupported("#/properties/a~1b/" + keyword, keyword));
    }
    expect_error(
        R"({"type": "string", "format": "email"})",
        "the JSON schema at #/format: only the formats date, time, date-time and uuid are supported: leave it out");
    expect_error(
        R"({"format": "date", "maxLength": 3})",
        "the JSON schema at #/format: a format together with minLength or maxLength is not supported: leave them out");
    expect_error(R"({"type": "number", "minimum": 1})",
                 "the JSON schema at #/minimum: \"minimum\" is supported only for the type integer");
    expect_error(R"({"exclusiveMaximum": 1})",
                 "the JSON schema at #/exclusiveMaximum: \"exclusiveMaximum\" is supported only for the type integer");
    expect_error(R"({"allOf": [{}, {}]})",
                 "the JSON schema at #/allOf: \"allOf\" is supported only with one schema: combine them into one");
    expect_error(
        R"({"anyOf": [{}], "required": ["a"]})",
        "the JSON schema at #/required: \"required\" together with \"anyOf\" is not supported: combine them into one");
    expect_error(
        R"({"enum": [1], "const": 1})",
        "the JSON schema at #/const: \"const\" together with \"enum\" is not supported: combine them into one");
    expect_error(R"({"$ref": "#", "type": "object"})",
                 "the JSON schema at #/type: \"type\" together with \"$ref\" is not supported: combine them into one");
}

TEST(JsonSchema, WhatAllowsNothingOrIsNoSchemaIsSaid) {
    expect_error("false", "the JSON schema at #: false allows nothing: leave it out");
    expect_error("3", "the JSON schema at #: a schema must be an object, true or false");
    expect_error(R"({"items": [1]})",
                 "the JSON schema at #/items: a list of schemas belongs in \"prefixItems\"; \"items\" is the "
                 "schema of all others");
    expect_error(R"({"properties": {"a": 1}})",
                 "the JSON schema at #/properties/a: a schema must be an object, true or false");
    expect_error(R"({"properties": []})",
                 "the JSON schema at #/properties: \"properties\" must be an object of schemas");
    expect_error(R"({"properties": {"a": false}, "required": ["a"]})",
                 "the JSON schema at #/properties/a: false allows nothing: leave it out");
    expect_error(R"({"properties": {"a": {}}, "required": ["b"]})",
                 "the JSON schema at #/required: the name \"b\" is not among the properties");
    expect_error(R"({"required": [1]})", "the JSON schema at #/required: \"required\" must be a list of names");
    expect_error(R"({"type": "text"})",
                 "the JSON schema at #/type: a type must be string, integer, number, boolean, null, object or array");
    expect_error(R"({"type": []})", "the JSON schema at #/type: an empty list of types allows nothing");
    expect_error(R"({"enum": []})", "the JSON schema at #/enum: \"enum\" must be a list of at least one value");
    expect_error(R"({"enum": ["a"], "type": "integer"})",
                 "the JSON schema at #/enum: no value is of the schema's type");
    expect_error(R"({"anyOf": []})", "the JSON schema at #/anyOf: this must be a list of at least one schema");
    expect_error(R"({"anyOf": [false]})", "the JSON schema at #/anyOf: none of the schemas allows anything");
    expect_error(R"({"prefixItems": []})",
                 "the JSON schema at #/prefixItems: \"prefixItems\" must be a list of 1 to 256 schemas");
    expect_error(R"({"minLength": 3, "maxLength": 2})",
                 "the JSON schema at #/minLength: \"minLength\" is more than \"maxLength\"");
    expect_error(R"({"minItems": 3, "maxItems": 2})",
                 "the JSON schema at #/minItems: \"minItems\" is more than \"maxItems\"");
    expect_error(R"({"prefixItems": [{}], "minItems": 2})",
                 "the JSON schema at #/minItems: \"minItems\" is 2, but the schema allows only 1 items");
    expect_error(R"({"type": "integer", "minimum": 3, "exclusiveMaximum": 3})",
                 "the JSON schema at #: no integer is at least 3 (minimum, exclusiveMinimum) and at most 2 (maximum, "
                 "exclusiveMaximum)");
}

TEST(JsonSchema, ReferencesThatLeadNowhereAreSaid) {
    const std::string how =
        ": a reference must be \"#\", or \"#/$defs/NAME\" or \"#/definitions/NAME\" of a schema that exists";
    for (const std::string target : {R"("#/$defs/b")", R"("#/properties/a")", R"("http://example.com/x")", "1", R"("")",
                                     R"("#/$defs/a/properties/x")", R"("#/definitions/a")"}) {
        expect_error(R"({"items": {"$ref": )" + target + R"(}, "$defs": {"a": {}}})",
                     "the JSON schema at #/items/$ref" + how);
    }
    expect_error(R"({"$ref": "#"})", "the JSON schema at #: this refers to itself with nothing around it");
    // This circular reference is found only after the whole schema has been read.
    expect_error(
        R"({"items": {"$ref": "#/$defs/m"}, "$defs": {"m": {"anyOf": [{"items": {"$ref": "#/$defs/x"}}, {"$ref":
        "#/$defs/x"}]}, "x": {"anyOf": [{"$ref": "#/$defs/m"}, {"type": "null"}]}}})",
        "the JSON schema at #/$defs/m: this refers to itself with nothing around it");
    const auto endless = grammar_of_schema(R"({"properties": {"a": {"$ref": "#"}}, "required": ["a"]})");
    ASSERT_FALSE(endless);
    EXPECT_NE(endless.error().message.find("can never end"), std::string::npos) << endless.error().message;
}

TEST(JsonSchema, NumbersOutOfRangeNameTheirKey) {
    for (const std::string key : {"minItems", "maxItems", "minLength", "maxLength"}) {
        for (const std::string number : {"-1", "257", "1.5", "\"1\"", "null", "1e300", "18446744073709551615"}) {
            expect_error(std::format(R"({{"{}": {}}})", key, number),
                         std::format("the JSON schema at #/{0}: \"{0}\" must be a whole number from 0 to 256", key));
        }
        expect_error(std::format(R"({{"{}": 1e400}})", key),
                     std::format("the JSON schema's \"{}\": the number 1e400 is out of range", key));
        expect_error(std::format(R"({{"{}": NaN}})", key),
                     std::format("the JSON schema is not valid JSON in UTF-8 from byte {} on, after the key \"{}\"",
                                 key.size() + 6, key));
    }
    expect(R"({"minLength": 1.0})", {R"("a")"}, {R"("")"});
    for (const std::string key : {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}) {
        for (const std::string number : {"1.1e15", "-1e16", "true", "\"1\""}) {
            expect_error(std::format(R"({{"type": "integer", "{}": {}}})", key, number),
                         std::format("the JSON schema at #/{0}: \"{0}\" must be a number from -1e15 to 1e15", key));
        }
    }
}

TEST(JsonSchema, WhatIsNotJsonIsSaid) {
    for (const std::string text : {"", "{", "[", "{\"type\": }", "{'type': 'string'}", "\"\xff\"", "{} {}", "\xff"}) {
        const auto grammar = grammar_of_schema(text);
        ASSERT_FALSE(grammar) << text;
        EXPECT_TRUE(grammar.error().message.starts_with("the JSON schema is not valid JSON in UTF-8 from byte "))
            << grammar.error().message;
    }
}

TEST(JsonSchema, SizesAreBounded) {
    expect_error(std::string(64 * 1024 + 1, ' '), "a JSON schema of more than 65536 bytes is not accepted");
    for (const auto& text :
         {std::string(60000, '['), "{\"enum\": [" + std::string(40, '[') + std::string(40, ']') + "]}"})
        expect_error(text, "the JSON schema is nested more than 32 levels deep");
    const auto numbers = [](int n) {
        Json list = Json::array();
        for (int i = 0; i < n; i++) list.push_back(i);
        return list;
    };
    expect_error(Json({{"enum", numbers(1001)}}).dump(),
                 "the JSON schema at #/enum: the schema has more than 1000 values of \"enum\"");
    expect_error(Json({{"anyOf", {{{"enum", numbers(600)}}, {{"enum", numbers(600)}}}}}).dump(),
                 "the JSON schema at #/anyOf/1/enum: the schema has more than 1000 values of \"enum\"");
    Json many = Json::object();
    for (int i = 0; i < 501; i++) many[std::format("p{}", i)] = true;
    expect_error(Json({{"anyOf", {{{"properties", many}}, {{"properties", many}}}}}).dump(),
                 "the JSON schema at #/anyOf/1: the schema has more than 1000 properties");
    for (int i = 501; i < 1001; i++) many[std::format("p{}", i)] = true;
    expect_error(Json({{"properties", many}}).dump(), "the JSON schema has an object of more than 1000 keys");
}

TEST(JsonSchema, TheLargestThatAreAllowedStayUsable) {
    Json properties = Json::object();
    for (int i = 0; i < 1000; i++) properties[std::format("property{}", i)] = {{"type", "string"}};
    const auto begin = std::chrono::steady_clock::now();
    auto reader = reader_of(Json({{"properties", properties}}).dump());
    EXPECT_TRUE(reader.accepts(R"({"property0": "a", "property500": "b", "property999": "c"})"));
    EXPECT_TRUE(reader.accepts(R"({})"));
    EXPECT_FALSE(reader.accepts(R"({"property999": "a", "property0": "b"})"));
    EXPECT_FALSE(reader.accepts(R"({"property1000": "a"})"));

    Json values = Json::array();
    for (int i = 0; i < 1000; i++) values.push_back(std::format("value {}", i));
    auto enumeration = reader_of(Json({{"enum", values}}).dump());
    EXPECT_TRUE(enumeration.accepts(R"("value 999")"));
    EXPECT_FALSE(enumeration.accepts(R"("value 1000")"));
    EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(20));

    // With additionalProperties, the grammar must exclude the listed names. It stays within the limits or the error is
    // clear.
    const auto others = grammar_of_schema(Json({{"properties", properties}, {"additionalProperties", true}}).dump());
    EXPECT_TRUE(others) << others.error().message;
    Json long_names = Json::object();
    std::minstd_rand random(1);
    for (int i = 0; i < 400; i++) {
        std::string name(100, ' ');
        for (char& c : name) c = static_cast<char>('a' + random() % 26);
        long_names[name] = true;
    }
    const auto too_large = grammar_of_schema(Json({{"properties", long_names}, {"additionalProperties", true}}).dump());
    ASSERT_FALSE(too_large);
    EXPECT_EQ(too_large.error().message,
              "the JSON schema cannot be made into a grammar: a grammar of more than 262144 bytes is not accepted");
}

}  // namespace
}  // namespace cake
