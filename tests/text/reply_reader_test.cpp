#include "text/reply_reader.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "text/reply_style.hpp"

namespace cake {
namespace {

using Json = nlohmann::ordered_json;

std::vector<Tool> tools() {
    return {{.name = "get_weather",
             .parameters = Json::parse(R"({"type": "object", "properties": {"city": {"type": "string"},
                                           "days": {"type": "integer"}}, "required": ["city"]})")},
            {.name = "stop"}};
}

const ReplyFormat& format_of(std::string_view name) {
    return *std::ranges::find(reply_formats(), name, &ReplyFormat::name);
}

ReplyOptions options_of(std::string_view format) {
    return {.format = &format_of(format), .tools = tools()};
}

/// A text as its parts: content as it is, reasoning in brackets, and calls as "name(arguments)".
std::string told(const std::vector<ReplyPart>& parts) {
    std::string text;
    for (const auto& part : parts) {
        if (part.kind == ReplyPart::Kind::content) text += part.text;
        if (part.kind == ReplyPart::Kind::reasoning) text += "⟦" + part.text + "⟧";
        if (part.kind == ReplyPart::Kind::call) text += "⟨" + part.call.name + part.call.arguments + "⟩";
    }
    return text;
}

/// Joins parts of the same kind that follow each other.
std::vector<ReplyPart> joined(const std::vector<ReplyPart>& parts) {
    std::vector<ReplyPart> result;
    for (const auto& part : parts) {
        if (!result.empty() && part.kind != ReplyPart::Kind::call && result.back().kind == part.kind)
            result.back().text += part.text;
        else
            result.push_back(part);
    }
    return result;
}

std::string read(const ReplyOptions& options, std::string_view text, size_t n_piece = std::string_view::npos) {
    ReplyReader reader(options);
    std::vector<ReplyPart> parts;
    for (size_t at = 0; at < text.size(); at += std::min(n_piece, text.size()))
        parts.append_range(reader.add(text.substr(at, n_piece)));
    parts.append_range(reader.finish());
    return told(joined(parts));
}

/// Checks what a text is read as, whole and in pieces of every small size.
void expect_read(const ReplyOptions& options, std::string_view text, std::string_view parts) {
    EXPECT_EQ(read(options, text), parts) << text;
    for (const size_t n : {1, 2, 3, 7}) EXPECT_EQ(read(options, text, n), parts) << text << " in pieces of " << n;
}

struct Case {
    const char* format;
    const char* text;
    const char* parts;
};

constexpr const char* kWeather = R"(⟨get_weather{"city":"Bern","days":2}⟩)";

TEST(ReplyReader, ReadsTheCallsOfEachFormat) {
    const std::string both = std::string(kWeather) + "⟨stop{}⟩";
    const std::vector<Case> cases{
        {"hermes",
         "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Bern\", \"days\": 2}}\n</tool_call>",
         kWeather},
        {"hermes",
         "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Bern\", \"days\": 2}}\n</tool_call>\n"
         "<tool_call>\n{\"name\": \"stop\", \"arguments\": {}}\n</tool_call>",
         both.c_str()},
        {"qwen3-coder",
         "<tool_call>\n<function=get_weather>\n<parameter=city>\nBern\n</parameter>\n<parameter=days>\n2\n</"
         "parameter>\n"
         "</function>\n</tool_call>",
         kWeather},
        {"glm",
         "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Bern</arg_value>\n<arg_key>days</arg_key>\n"
         "<arg_value>2</arg_value>\n</tool_call>",
         kWeather},
        {"glm", "<tool_call>stop\n</tool_call>", "⟨stop{}⟩"},
        {"minimax",
         "<minimax:tool_call>\n<invoke name=\"get_weather\">\n<parameter name=\"city\">Bern</parameter>\n"
         "<parameter name=\"days\">2</parameter>\n</invoke>\n<invoke name=\"stop\">\n</invoke>\n</minimax:tool_call>",
         both.c_str()},
        {"seed-oss", "<seed:tool_call>\n<function=stop>\n</function>\n</seed:tool_call>", "⟨stop{}⟩"},
        {"deepseek-v3",
         "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n"
         "{\"city\": \"Bern\", \"days\": 2}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>stop\n"
         "```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
         both.c_str()},
        {"deepseek-v3.1",
         "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{\"city\": \"Bern\", \"days\": 2}"
         "<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
         kWeather},
        {"kimi",
         "<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>"
         "{\"city\": \"Bern\", \"days\": 2}<|tool_call_end|><|tool_calls_section_end|>",
         kWeather},
        {"mistral", "[TOOL_CALLS][{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Bern\", \"days\": 2}}]",
         kWeather},
        {"mistral-arguments", "[TOOL_CALLS]get_weather[ARGS]{\"city\": \"Bern\", \"days\": 2}[TOOL_CALLS]stop[ARGS]{}",
         both.c_str()},
        {"mistral-arguments", "[TOOL_CALLS]stop[CALL_ID]abcdefghi[ARGS]{}", "⟨stop{}⟩"},
        {"gpt-oss",
         "<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{\"city\": \"Bern\", \"days\": "
         "2}<|call|>",
         kWeather},
        {"gpt-oss", "<|channel|>commentary to=functions.stop<|message|>{}", "⟨stop{}⟩"},
        {"granite", "<|tool_call|>[{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Bern\", \"days\": 2}}]",
         kWeather},
        {"phi", "<|tool_call|>[{\"name\": \"stop\", \"arguments\": {}}]<|/tool_call|>", "⟨stop{}⟩"},
        {"nemotron", "<TOOLCALL>[{\"name\": \"stop\", \"arguments\": {}}]</TOOLCALL>", "⟨stop{}⟩"},
        {"command-r",
         "<|START_ACTION|>[\n{\"tool_call_id\": \"0\", \"tool_name\": \"stop\", \"parameters\": {}}\n]<|END_ACTION|>",
         "⟨stop{}⟩"},
        {"lfm2", "<|tool_call_start|>[get_weather(city=\"Bern\", days=2)]<|tool_call_end|>", kWeather},
        {"functionary", "<function=get_weather>{\"city\": \"Bern\", \"days\": 2}</function>", kWeather},
        {"llama3", "{\"name\": \"get_weather\", \"parameters\": {\"city\": \"Bern\", \"days\": 2}}", kWeather},
        {"pythonic", "[get_weather(city='Bern', days=2), stop()]", both.c_str()},
    };
    for (const auto& [format, text, parts] : cases) {
        SCOPED_TRACE(format);
        expect_read(options_of(format), text, parts);
    }
    for (const auto& format : reply_formats())
        EXPECT_TRUE(std::ranges::contains(cases, format.name, [](const Case& c) { return std::string_view(c.format); }))
            << format.name;
}

TEST(ReplyReader, WhatIsNoWholeCallIsContent) {
    for (const char* text : {
             "<tool_call>",
             "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\"",
             "Well.\n\n<tool_call>\n{\"name\": \"unknown\", \"arguments\": {}}\n</tool_call>",
             "<tool_call>nothing</tool_call> and <tool_call>",
             "<tool_call></tool_call>",
             "  \n <tool_call>{\"name\": \"stop\", \"arguments\": [1]}</tool_call>\n",
             "a <tool_cal b </tool_call> c\n\n",
             "\n",
         })
        expect_read(options_of("hermes"), text, text);
    expect_read(options_of("llama3"), "{\"name\": \"Bern\"}", "{\"name\": \"Bern\"}");
    expect_read(options_of("llama3"), "{\"city\": \"Bern\"}", "{\"city\": \"Bern\"}");
    expect_read(options_of("llama3"), " {", " {");
    expect_read(options_of("llama3"), "\n{\"name\": \"stop\", \"parameters\": {}}", "⟨stop{}⟩");
    expect_read(options_of("pythonic"), "[1, 2]", "[1, 2]");
    for (const char* text : {"[get_weather(city=", "[get_weather(city=\"\\u12", "[get_weather(city=\"\\u\")]"})
        expect_read(options_of("pythonic"), text, text);
    expect_read(options_of("pythonic"), "[get_weather(city='\\ud83c\\udf70\\u00e9')]",
                "⟨get_weather{\"city\":\"🍰é\"}⟩");
    expect_read({}, "<think>a</think><tool_call>b</tool_call>", "<think>a</think><tool_call>b</tool_call>");
}

TEST(ReplyReader, ACallMayComeAlone) {
    const auto options = options_of("hermes");
    constexpr std::string_view kCall = "{\"name\": \"stop\", \"arguments\": {}}";
    expect_read(options, kCall, "⟨stop{}⟩");
    expect_read(options, "```json\n" + std::string(kCall) + "\n```\n", "⟨stop{}⟩");
    for (const std::string text : {"```json\n{\"name\": \"Bern\"}\n```", "```json\n[1]\n```", "```python\nstop()\n```",
                                   "{\"city\": \"Bern\"}", "So: {\"name\": \"stop\", \"arguments\": {}}", "```", "{"})
        expect_read(options, text, text);
    expect_read(options, std::string(kCall) + " That is it.", std::string(kCall) + " That is it.");
}

TEST(ReplyReader, AGoodCallAfterABadOneIsRead) {
    expect_read(options_of("hermes"),
                "<tool_call>{bad}</tool_call>\n<tool_call>{\"name\": \"stop\", \"arguments\": {}}</tool_call>",
                "<tool_call>{bad}</tool_call>⟨stop{}⟩");
}

TEST(ReplyReader, AnArgumentMayContainTheEndOfACall) {
    expect_read(options_of("hermes"),
                "<tool_call>{\"name\": \"get_weather\", \"arguments\": {\"city\": \"</tool_call>\"}}</tool_call>.",
                "⟨get_weather{\"city\":\"</tool_call>\"}⟩.");
    expect_read(
        options_of("deepseek-v3.1"),
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{\"city\": \"<｜tool▁call▁end｜>\"}"
        "<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        "⟨get_weather{\"city\":\"<｜tool▁call▁end｜>\"}⟩");
}

TEST(ReplyReader, KeepsContentBesideCalls) {
    expect_read(options_of("hermes"), "I look.\n\n<tool_call>\n{\"name\": \"stop\", \"arguments\": {}}\n</tool_call>\n",
                "I look.⟨stop{}⟩");
    expect_read(options_of("hermes"), "1 < 2\n", "1 < 2\n");
}

TEST(ReplyReader, ReadsReasoning) {
    ReplyOptions options = options_of("hermes");
    options.reasoning = ReasoningMarks{"<think>", "</think>"};
    expect_read(options, "<think>\nHm. <tool_call>?\n</think>\n\nYes.\n", "⟦Hm. <tool_call>?⟧Yes.\n");
    expect_read(options, "<think>\n\n</think>\n\nYes.", "Yes.");
    expect_read(options, "<think>No end", "⟦No end⟧");
    expect_read(options, "No <thin", "No <thin");
    expect_read(options, "The tag <think> begins it, </think> ends it.",
                "The tag <think> begins it, </think> ends it.");
    expect_read(options, "<think>a</think><tool_call>{\"name\": \"stop\", \"arguments\": {}}</tool_call>",
                "⟦a⟧⟨stop{}⟩");
    options.begins_in_reasoning = true;
    expect_read(options, "\nHm.\n</think>\n\nYes.", "⟦Hm.⟧Yes.");
}

TEST(ReplyReader, ReadsTheChannelsOfGptOss) {
    ReplyOptions options = options_of("gpt-oss");
    options.reasoning = reasoning_marks_of("<|channel|>analysis");
    expect_read(options,
                "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Yes.<|return|>",
                "⟦Hm.⟧Yes.");
    expect_read(options,
                "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary to=functions.stop "
                "<|constrain|>json<|message|>{}<|call|>",
                "⟦Hm.⟧⟨stop{}⟩");
}

TEST(ReplyReader, LosesNoCharacterOfTextsWithoutMarks) {
    std::mt19937 random(1);
    constexpr std::string_view kPieces[]{"<tool_call", "</tool_call>", "<think", "\n", " ", "{", "}", "\"name\"",
                                         "é",          "stop",         "[",      "<|", "<", ">"};
    ReplyOptions options = options_of("hermes");
    options.reasoning = ReasoningMarks{"<think>", "</think>"};
    for (int i = 0; i < 20'000; i++) {
        std::string text;
        const size_t n = random() % 20;
        for (size_t k = 0; k < n; k++) text += kPieces[random() % std::size(kPieces)];
        const auto whole = read(options, text);
        ASSERT_EQ(read(options, text, 1 + random() % 5), whole) << text;
        const bool has_marks = text.contains("<think>") || text.contains("<tool_call>") || text.contains("name");
        if (!has_marks) {
            ASSERT_EQ(whole, text);
        }
    }
}

TEST(ReplyStyle, TemplatesAreRecognised) {
    const std::vector<std::pair<std::string, std::string_view>> cases{
        {"{% if tools %}<tool_call>\n{\"name\": <function-name>}", "hermes"},
        {"{% if tools %}<tool_call>\n<function=example>", "qwen3-coder"},
        {"{% if tools %}<tool_call>{name}\n<arg_key>", "glm"},
        {"{{ '[TOOL_CALLS]' + name + '[ARGS]' }}", "mistral-arguments"},
        {"{{ '[TOOL_CALLS]' }}", "mistral"},
        {"'<｜tool▁calls▁begin｜>' '\\n```json\\n'", "deepseek-v3"},
        {"'<｜tool▁calls▁begin｜>'", "deepseek-v3.1"},
        {"\"<|channel|>commentary to=functions.\"", "gpt-oss"},
        {"{\"name\": function name, \"parameters\": dictionary}", "llama3"},
        {"<|im_start|>", ""},
    };
    for (const auto& [source, name] : cases) {
        const auto* format = reply_format_of(source);
        EXPECT_EQ(format == nullptr ? "" : format->name, name) << source;
    }
    EXPECT_EQ(reasoning_marks_of("content.split('</think>')")->begin, "<think>");
    EXPECT_FALSE(reasoning_marks_of("<|end|>"));
}

TEST(ReplyStyle, ToolsAreWrittenIntoAConversation) {
    const std::vector<ChatMessage> messages{
        {.role = "user", .content = "?"},
        {.role = "assistant",
         .content = "",
         .fields = R"({"tool_calls": [{"function": {"name": "stop", "arguments": {}}}]})"},
        {.role = "tool", .content = "1"},
        {.role = "tool", .content = "2"}};
    const auto written = with_tools_as_text(messages, R"([{"type": "function", "function": {"name": "stop"}}])");
    ASSERT_EQ(written.size(), 4U);
    EXPECT_EQ(written[0].role, "system");
    EXPECT_TRUE(written[0].content.contains("{\"type\":\"function\",\"function\":{\"name\":\"stop\"}}"));
    EXPECT_EQ(written[2].content, "<tool_call>\n{\"name\":\"stop\",\"arguments\":{}}\n</tool_call>");
    EXPECT_EQ(written[3].role, "user");
    EXPECT_EQ(written[3].content, "<tool_response>\n1\n</tool_response>\n<tool_response>\n2\n</tool_response>");
}

}  // namespace
}  // namespace cake
