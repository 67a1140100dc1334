#pragma once

#include <optional>
#include <string_view>
#include <vector>

namespace cake {

/// How one call is written. A white space in a mark stands for any white space, also none, when calls are read.
struct CallSyntax {
    enum class Kind {
        json,        // {"name": …, "arguments": …}, or an array of them
        named_json,  // the name, then the arguments as JSON
        parameters,  // the name, then each argument between marks
        python,      // [name(argument=value, …), …]
    };
    Kind kind = Kind::json;
    bool is_list = false;                          // json: written as an array
    std::string_view name_key = "name";            // json
    std::string_view arguments_key = "arguments";  // json
    std::string_view before_name = {};             // named_json, parameters
    std::string_view after_name = {};              // named_json, parameters
    std::string_view before_id = {};               // named_json: comes between the name and an ID
    std::string_view behind = {};                  // named_json: after the arguments
    std::string_view before_key = {};              // parameters
    std::string_view after_key = {};               // parameters
    std::string_view after_value = {};             // parameters
    bool name_is_id = false;                       // named_json: "functions.NAME:0" is also the ID
};

/// How a family of models writes calls of tools.
struct ReplyFormat {
    std::string_view name;
    std::vector<std::string_view> signs{};  // all of them occur in a chat template for this format
    std::string_view open{};                // begins a section with calls; empty: calls are the whole text
    std::string_view close{};               // ends it; empty: the end of the text, or the next `open`
    std::string_view begin{};               // around each call in a section
    std::string_view end{};
    CallSyntax syntax{};
    bool is_often_bare = false;               // small models write a call alone, without `open`, or in a fence for code
    std::string_view turn{};                  // begins what follows reasoning
    std::vector<std::string_view> skipped{};  // further marks that are no content
};

/// The marks around what a model writes before its answer.
struct ReasoningMarks {
    std::string_view begin;
    std::string_view end;
};

/// The format that a chat template (Jinja) describes; null if it describes none of those that are known.
const ReplyFormat* reply_format_of(std::string_view chat_template);
/// The format for models whose template describes none: that of Hermes, which with_tools_as_text() describes.
const ReplyFormat& usual_reply_format();
/// All formats.
const std::vector<ReplyFormat>& reply_formats();

/// The marks that a chat template (Jinja) mentions.
std::optional<ReasoningMarks> reasoning_marks_of(std::string_view chat_template);

}  // namespace cake
