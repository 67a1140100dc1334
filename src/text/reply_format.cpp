#include "text/reply_format.hpp"

#include <algorithm>
#include <array>

namespace cake {

namespace {

using SyntaxKind = CallSyntax::Kind;

constexpr CallSyntax kFunctionTags{.kind = SyntaxKind::parameters,
                                   .after_name = ">\n",
                                   .before_key = "<parameter=",
                                   .after_key = ">\n",
                                   .after_value = "\n</parameter>\n"};

/// A format comes before those whose signs it has as well.
std::vector<ReplyFormat> make_formats() {
    return {
        {.name = "gpt-oss",
         .signs = {"<|channel|>", "to=functions."},
         .open = "<|channel|>commentary to=",
         .close = "<|call|>",
         .syntax = {.kind = SyntaxKind::named_json,
                    .before_name = "functions.",
                    .after_name = " <|constrain|>json<|message|>"},
         .turn = "<|start|>assistant",
         .skipped = {"<|start|>assistant", "<|channel|>final<|message|>", "<|channel|>commentary<|message|>", "<|end|>",
                     "<|return|>"}},
        {.name = "glm",
         .signs = {"<arg_key>"},
         .open = "<tool_call>",
         .close = "</tool_call>",
         .syntax = {.kind = SyntaxKind::parameters,
                    .after_name = "\n",
                    .before_key = "<arg_key>",
                    .after_key = "</arg_key>\n<arg_value>",
                    .after_value = "</arg_value>\n"}},
        {.name = "seed-oss",
         .signs = {"<seed:tool_call>"},
         .open = "<seed:tool_call>",
         .close = "</seed:tool_call>",
         .begin = "\n<function=",
         .end = "</function>\n",
         .syntax = kFunctionTags},
        {.name = "qwen3-coder",
         .signs = {"<tool_call>", "<function="},
         .open = "<tool_call>",
         .close = "</tool_call>",
         .begin = "\n<function=",
         .end = "</function>\n",
         .syntax = kFunctionTags},
        {.name = "hermes",
         .signs = {"<tool_call>"},
         .open = "<tool_call>",
         .close = "</tool_call>",
         .is_often_bare = true},
        {.name = "minimax",
         .signs = {"<minimax:tool_call>"},
         .open = "<minimax:tool_call>",
         .close = "</minimax:tool_call>",
         .begin = "\n<invoke name=\"",
         .end = "</invoke>\n",
         .syntax = {.kind = SyntaxKind::parameters,
                    .after_name = "\">\n",
                    .before_key = "<parameter name=\"",
                    .after_key = "\">",
                    .after_value = "</parameter>\n"}},
        {.name = "deepseek-v3",
         .signs = {"<｜tool▁calls▁begin｜>", "```json"},
         .open = "<｜tool▁calls▁begin｜>",
         .close = "<｜tool▁calls▁end｜>",
         .begin = "<｜tool▁call▁begin｜>",
         .end = "<｜tool▁call▁end｜>",
         .syntax = {.kind = SyntaxKind::named_json,
                    .before_name = "function<｜tool▁sep｜>",
                    .after_name = "\n```json\n",
                    .behind = "\n```"}},
        {.name = "deepseek-v3.1",
         .signs = {"<｜tool▁calls▁begin｜>"},
         .open = "<｜tool▁calls▁begin｜>",
         .close = "<｜tool▁calls▁end｜>",
         .begin = "<｜tool▁call▁begin｜>",
         .end = "<｜tool▁call▁end｜>",
         .syntax = {.kind = SyntaxKind::named_json, .after_name = "<｜tool▁sep｜>"}},
        {.name = "kimi",
         .signs = {"<|tool_calls_section_begin|>"},
         .open = "<|tool_calls_section_begin|>",
         .close = "<|tool_calls_section_end|>",
         .begin = "<|tool_call_begin|>",
         .end = "<|tool_call_end|>",
         .syntax = {.kind = SyntaxKind::named_json,
                    .before_name = "functions.",
                    .after_name = "<|tool_call_argument_begin|>",
                    .name_is_id = true}},
        {.name = "mistral-arguments",
         .signs = {"[TOOL_CALLS]", "[ARGS]"},
         .open = "[TOOL_CALLS]",
         .syntax = {.kind = SyntaxKind::named_json, .after_name = "[ARGS]", .before_id = "[CALL_ID]"}},
        {.name = "mistral", .signs = {"[TOOL_CALLS]"}, .open = "[TOOL_CALLS]", .syntax = {.is_list = true}},
        {.name = "phi",
         .signs = {"<|tool_call|>", "<|/tool_call|>"},
         .open = "<|tool_call|>",
         .close = "<|/tool_call|>",
         .syntax = {.is_list = true}},
        {.name = "granite", .signs = {"<|tool_call|>"}, .open = "<|tool_call|>", .syntax = {.is_list = true}},
        {.name = "nemotron",
         .signs = {"<TOOLCALL>"},
         .open = "<TOOLCALL>",
         .close = "</TOOLCALL>",
         .syntax = {.is_list = true}},
        {.name = "command-r",
         .signs = {"<|START_ACTION|>"},
         .open = "<|START_ACTION|>",
         .close = "<|END_ACTION|>",
         .syntax = {.is_list = true, .name_key = "tool_name", .arguments_key = "parameters"}},
        {.name = "lfm2",
         .signs = {"<|tool_call_start|>"},
         .open = "<|tool_call_start|>",
         .close = "<|tool_call_end|>",
         .syntax = {.kind = SyntaxKind::python}},
        {.name = "functionary",
         .signs = {"<function="},
         .open = "<function=",
         .close = "</function>",
         .syntax = {.kind = SyntaxKind::named_json, .after_name = ">"}},
        {.name = "pythonic", .signs = {"[func_name1("}, .syntax = {.kind = SyntaxKind::python}},
        {.name = "llama3", .signs = {"\"parameters\": "}, .syntax = {.arguments_key = "parameters"}},
    };
}

}  // namespace

const std::vector<ReplyFormat>& reply_formats() {
    static const auto formats = make_formats();
    return formats;
}

const ReplyFormat* reply_format_of(std::string_view chat_template) {
    const auto found = std::ranges::find_if(reply_formats(), [&](const ReplyFormat& format) {
        return std::ranges::all_of(format.signs, [&](std::string_view sign) { return chat_template.contains(sign); });
    });
    return found == reply_formats().end() ? nullptr : &*found;
}

const ReplyFormat& usual_reply_format() {
    return *std::ranges::find(reply_formats(), "hermes", &ReplyFormat::name);
}

std::optional<ReasoningMarks> reasoning_marks_of(std::string_view chat_template) {
    struct Row {
        std::string_view sign;
        ReasoningMarks marks;
    };
    constexpr std::array kRows{
        Row{"<|channel|>analysis", {"<|channel|>analysis<|message|>", "<|end|>"}},
        Row{"</seed:think>", {"<seed:think>", "</seed:think>"}},
        Row{"[/THINK]", {"[THINK]", "[/THINK]"}},
        Row{"<|END_THINKING|>", {"<|START_THINKING|>", "<|END_THINKING|>"}},
        Row{"</think>", {"<think>", "</think>"}},
    };
    for (const auto& row : kRows)
        if (chat_template.contains(row.sign)) return row.marks;
    return std::nullopt;
}

}  // namespace cake
