#include "fuzz/body_maker.hpp"

#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <string_view>

namespace cake::test {

namespace {

constexpr const char* kOfBoth[] = {"model",      "stream",          "stream_options", "stop",       "temperature",
                                   "top_p",      "min_p",           "top_k",          "seed",       "n",
                                   "logit_bias", "response_format", "grammar",        "policy",     "kv_budget",
                                   "user",       "cache_prompt",    "ignore_eos",     "max_tokens", "presence_penalty",
                                   "document"};
constexpr const char* kOfChat[] = {"top_logprobs", "logprobs", "max_completion_tokens", "tools",   "tool_choice",
                                   "system",       "input",    "instructions",          "thinking"};
constexpr const char* kOfText[] = {"echo", "best_of", "suffix", "logprobs"};
constexpr const char* kOfTokens[] = {"with_pieces", "add_special", "model"};
constexpr const char* kOdd[] = {"nonsense", "messages",          "prompt", "content",
                                "tokens",   "frequency_penalty", "",       "functions"};

}  // namespace

std::string BodyMaker::text() {
    using namespace std::string_view_literals;
    std::string result;
    for (size_t i = below(once_in(20) ? 400 : 12); i > 0; i--) {
        result += one_of({"the rain"sv, " "sv,    "\n"sv, "日本語"sv, "🍰"sv,        "\xC3\xA9"sv, "<|im_start|>"sv,
                          "<s>"sv,      "</s>"sv, "\""sv, "\0"sv,     "{"sv,         "["sv,        "a"sv,
                          "in spain"sv, "0"sv,    "\t"sv, "\x7F"sv,   "e\xCC\x81"sv, "﷽"sv});
    }
    return result;
}

BodyMaker::Json BodyMaker::number() {
    switch (below(12)) {
        case 0:
            return -1;
        case 1:
            return std::numeric_limits<int64_t>::max();
        case 2:
            return std::numeric_limits<uint64_t>::max();
        case 3:
            return std::numeric_limits<int64_t>::min();
        case 4:
            return 1e308;
        case 5:
            return -0.0;
        case 6:
            return 5e-324;
        case 7:
            return static_cast<double>(below(2000)) / 1000;
        default:
            return below(once_in(4) ? 100000 : 6);
    }
}

/// A number that most fields accept, or occasionally any number.
BodyMaker::Json BodyMaker::usual_number() {
    if (once_in(12)) return number();
    return once_in(2) ? Json(below(2)) : Json(static_cast<double>(below(1000)) / 1000);
}

BodyMaker::Json BodyMaker::anything(int depth) {
    switch (below(depth > 0 ? 8 : 6)) {
        case 0:
            return nullptr;
        case 1:
            return once_in(2);
        case 2:
        case 3:
            return number();
        case 4:
        case 5:
            return text();
        case 6: {
            auto list = Json::array();
            for (size_t i = below(5); i > 0; i--) list.push_back(anything(depth - 1));
            return list;
        }
        default: {
            auto object = Json::object();
            for (size_t i = below(5); i > 0; i--)
                object[once_in(3) ? text() : kOdd[below(std::size(kOdd))]] = anything(depth - 1);
            return object;
        }
    }
}

BodyMaker::Json BodyMaker::messages() {
    auto list = Json::array();
    for (size_t i = 1 + below(4); i > 0; i--) {
        Json message{{"role", one_of<const char*>({"user", "user", "user", "assistant", "assistant", "system",
                                                   "developer", once_in(8) ? "tool" : "user"})},
                     {"content", text()}};
        if (once_in(8)) message["content"] = Json::array({{{"type", "text"}, {"text", text()}}});
        if (once_in(20)) message["name"] = anything(1);
        if (once_in(8)) message["content"] = items();
        if (once_in(8))
            message["tool_calls"] =
                Json::array({{{"id", "1"}, {"function", {{"name", "stop"}, {"arguments", anything(1)}}}}});
        if (once_in(30)) message["content"] = anything(3);
        if (once_in(40)) message = anything(2);
        list.push_back(std::move(message));
    }
    return list;
}

/// Tools in the shapes of the three APIs.
BodyMaker::Json BodyMaker::tools() {
    auto list = Json::array();
    for (size_t i = below(3); i > 0; i--) {
        Json tool{{"name", one_of<const char*>({"stop", "get_weather", "a.b-c", once_in(9) ? "" : "x"})},
                  {one_of<const char*>({"parameters", "input_schema"}), schema(2)}};
        if (once_in(2)) tool = {{"type", "function"}, {"function", tool}};
        if (once_in(30)) tool = anything(2);
        list.push_back(std::move(tool));
    }
    return list;
}

BodyMaker::Json BodyMaker::tool_choice() {
    if (once_in(3)) return one_of<const char*>({"auto", "none", "required", "any", "other"});
    return {{"type", one_of<const char*>({"function", "tool", "any", "auto"})},
            {"name", "stop"},
            {"function", {{"name", one_of<const char*>({"stop", "x"})}}}};
}

/// Items and blocks of the Responses and Messages APIs.
BodyMaker::Json BodyMaker::items() {
    auto list = Json::array();
    for (size_t i = below(4); i > 0; i--) {
        Json item{{"type", one_of<const char*>({"text", "message", "function_call", "function_call_output", "reasoning",
                                                "tool_use", "tool_result", "thinking", "input_text"})},
                  {"text", text()},
                  {"content", once_in(2) ? Json(text()) : Json::array({{{"type", "text"}, {"text", text()}}})},
                  {"call_id", "1"},
                  {"name", "stop"},
                  {"arguments", one_of<const char*>({"{}", "{\"a\": 1}", "{", ""})},
                  {"input", anything(1)}};
        if (once_in(3)) item["role"] = one_of<const char*>({"user", "assistant", "developer", "system"});
        if (once_in(20)) item = anything(2);
        list.push_back(std::move(item));
    }
    return list;
}

BodyMaker::Json BodyMaker::schema(int depth) {
    if (once_in(30)) return anything(2);
    switch (below(depth > 0 ? 10 : 6)) {
        case 0:
            return {{"type", "string"}, {"minLength", below(3)}, {"maxLength", below(300)}};
        case 1:
            return {{"type", "integer"}, {"minimum", number()}, {"maximum", number()}};
        case 2:
            return {
                {"type", one_of<const char*>({"number", "boolean", "null", "string", "integer", "object", "array"})}};
        case 3:
            return {{"enum", Json::array({text(), number(), nullptr, anything(1)})}};
        case 4:
            return {{"const", anything(2)}};
        case 5:
            return {{"$ref", one_of<const char*>({"#", "#/$defs/a", "#/$defs/none", "other"})}};
        case 6: {
            auto properties = Json::object();
            auto required = Json::array();
            for (size_t i = below(6); i > 0; i--) {
                auto name = once_in(3) ? text() : std::string(1, static_cast<char>('a' + below(5)));
                properties[name] = schema(depth - 1);
                if (once_in(2)) required.push_back(name);
            }
            return {{"type", "object"},
                    {"properties", properties},
                    {"required", required},
                    {"additionalProperties", once_in(2)}};
        }
        case 7:
            return {{"type", "array"}, {"items", schema(depth - 1)}, {"minItems", below(4)}, {"maxItems", below(20)}};
        case 8:
            return {{one_of<const char*>({"anyOf", "oneOf", "allOf"}),
                     Json::array({schema(depth - 1), schema(depth - 1)})}};
        default:
            return {{"$defs", {{"a", schema(depth - 1)}}}, {"$ref", "#/$defs/a"}};
    }
}

std::string BodyMaker::schema_text() {
    auto made = schema(4);
    for (size_t i = below(3); i > 0 && made.is_object(); i--) {
        const auto keyword =
            one_of<std::string>({"pattern", "format", "not", "multipleOf", "patternProperties", "oneOf",
                                 "minProperties", "prefixItems", "exclusiveMaximum", "x-guidance"});
        if (keyword == "pattern")
            made[keyword] = one_of<const char*>({"^a+$", "[0-9]{2,}", "(a|b)*c", "a(", "\\bx", "^(.*,){5}$", ""});
        else if (keyword == "format")
            made[keyword] = one_of<const char*>({"date", "email", "uuid", "color", "ipv6", "uri"});
        else if (keyword == "patternProperties")
            made[keyword] = {{"^x", schema(1)}, {"y$", schema(1)}};
        else if (keyword == "oneOf" || keyword == "prefixItems")
            made[keyword] = Json::array({schema(1), schema(1), schema(0)});
        else
            made[keyword] = once_in(2) ? number() : schema(1);
    }
    auto text = made.dump(-1, ' ', false, Json::error_handler_t::ignore);
    return once_in(5) ? changed(std::move(text)) : text;
}

BodyMaker::Json BodyMaker::response_format() {
    if (once_in(10)) return anything(3);
    if (once_in(4)) return {{"type", one_of<const char*>({"text", "json_object", "xml"})}};
    return {{"type", "json_schema"}, {"json_schema", {{"name", "x"}, {"schema", schema(3)}, {"strict", true}}}};
}

std::string BodyMaker::expression(int depth) {
    std::string result;
    for (size_t i = 1 + below(3); i > 0; i--) {
        switch (below(depth > 0 ? 9 : 5)) {
            case 0:
                result += "\"" + one_of<std::string>({"a", "b", "\\n", "\\x41", "é", "", "\\\""}) + "\"";
                break;
            case 1:
                result += one_of<std::string>({"[a-z]", "[^\\n]", "[]", "[z-a]", "[\\u0041-\\U0001F370]", "["});
                break;
            case 2:
            case 3:
                result += one_of<std::string>({"root", "x", "y", "none"});
                break;
            case 4:
                result += '.';
                break;
            case 5:
            case 6:
                result += "(" + expression(depth - 1) + ")";
                break;
            default:
                result += expression(depth - 1) + " | " + expression(depth - 1);
        }
        if (once_in(3))
            result += one_of<std::string>({"*", "+", "?", "{2}", "{1,3}", "{,5}", "{0,}", "{9999}", "{3,1}"});
        result += ' ';
    }
    return result;
}

std::string BodyMaker::grammar() {
    return "root ::= " + expression(2) + "\nx ::= " + expression(2) + "\ny ::= " + expression(1) +
           (once_in(5) ? "\n# " + text() : "\n");
}

BodyMaker::Json BodyMaker::value_of(const std::string& field) {
    if (once_in(25)) return anything(3);
    if (field == "messages") return messages();
    if (field == "prompt") return once_in(4) ? Json::array({1, 2, below(1600)}) : Json(text());
    if (field == "stop") return once_in(2) ? Json(text()) : Json::array({text(), "x"});
    if (field == "response_format") return response_format();
    if (field == "grammar") return grammar();
    if (field == "logit_bias") return {{std::to_string(below(2000)), number()}, {text(), 1}};
    if (field == "stream_options") return {{"include_usage", once_in(2)}};
    if (field == "document") return one_of<const char*>({"a", "a", "b", ""});
    if (field == "policy") return one_of<const char*>({"cake", "full", "snapkv", "h2o:uniform", "cake:none", ""});
    if (field == "tokens") return Json::array({0, below(1536), below(1600)});
    if (field == "content" || field == "user" || field == "model") return text();
    if (field == "tools") return tools();
    if (field == "tool_choice") return tool_choice();
    if (field == "input" || field == "system") return once_in(3) ? Json(text()) : items();
    if (field == "thinking") return {{"type", one_of<const char*>({"enabled", "disabled", "adaptive"})}};
    if (field == "stream" || field == "echo" || field == "cache_prompt" || field == "ignore_eos" ||
        field == "with_pieces" || field == "add_special")
        return once_in(2);
    if (field == "logprobs") return once_in(2) ? Json(true) : Json(below(7));
    if (field == "temperature" || field == "top_p" || field == "min_p" || field.ends_with("penalty"))
        return usual_number();
    if (field == "suffix") return "";
    if (field == "kv_budget") return 32 + below(4000);
    return once_in(8) ? number() : Json(1 + below(4));
}

/// Removes, inserts, repeats or changes some bytes.
std::string BodyMaker::changed(std::string text) {
    for (size_t i = 1 + below(4); i > 0 && !text.empty(); i--) {
        const size_t at = below(text.size());
        switch (below(6)) {
            case 5:
                text.insert(at, one_of<std::string>({"\xF0\x9F", "\xED\xA0\x80", "\xFF", "\xC0\x80", "\\ud800"}));
                break;
            case 0:
                text.erase(at, 1 + below(8));
                break;
            case 1:
                text.insert(at, 1 + below(3), static_cast<char>(below(256)));
                break;
            case 2:
                text[at] = static_cast<char>(text[at] ^ static_cast<char>(1U << below(8)));
                break;
            case 3:
                text.insert(at, text.substr(at, below(64)));
                break;
            default:
                text.resize(at);
        }
    }
    if (once_in(50)) text.insert(below(text.size() + 1), std::string(below(200), one_of({'[', '{', '"', '('})));
    return text;
}

std::string BodyMaker::body() {
    auto object = Json::object();
    const auto set = [&](const std::string& field) { object[field] = value_of(field); };
    const size_t kind = below(6);
    const auto of_kind = [&] -> std::string {
        if (once_in(30)) return kOdd[below(std::size(kOdd))];
        if (kind >= 4) return kOfTokens[below(std::size(kOfTokens))];
        if (once_in(5)) return kind < 2 ? kOfChat[below(std::size(kOfChat))] : kOfText[below(std::size(kOfText))];
        return kOfBoth[below(std::size(kOfBoth))];
    };
    if (!once_in(50)) set(kind < 2 ? "messages" : kind < 4 ? "prompt" : kind == 4 ? "content" : "tokens");
    for (size_t i = below(4); i > 0; i--) {
        const auto field = of_kind();
        // Grammars are rare because they are slow to check.
        if ((field == "grammar" || field == "response_format") && !once_in(10)) continue;
        set(field);
    }
    const auto made = once_in(100) ? anything(3) : object;
    auto text = made.dump(-1, ' ', false, Json::error_handler_t::ignore);
    if (once_in(3000) && text.starts_with("{\"")) {  // many fields, to detect quadratic time
        std::string fields;
        for (size_t i = 0; i < 20'000; i++) fields += fmt::format("\"{} {}\": 0, ", i, below(10));
        text.insert(1, fields);
    }
    return once_in(5) ? changed(std::move(text)) : text;
}

}  // namespace cake::test
