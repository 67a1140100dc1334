#include "text/tool_grammar.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "text/guide.hpp"
#include "text/json_text.hpp"

namespace cake {

namespace {

using Json = nlohmann::ordered_json;
using SyntaxKind = CallSyntax::Kind;

/// White space between the parts of the arguments, the same as in other answers (WHITE_SPACE in bridge/src/guide.rs).
constexpr const char* kWhiteSpace = R"(\x20{1,2}|\r?\n[\x20\x09]{0,40})";

std::string literal(std::string_view text) {
    return json_text(Json(text));
}

/// The text as a regular expression between slashes.
std::string expression(std::string_view text) {
    constexpr std::string_view kSpecial = R"(\.+*?()|[]{}^$/#&-~)";
    std::string result;
    for (const char c : text) {
        if (c == '\n') {
            result += "\\n";
            continue;
        }
        if (kSpecial.contains(c)) result += '\\';
        result += c;
    }
    return result;
}

/// The texts that a schema for texts lists, if it does.
std::vector<std::string> listed_texts(const Json& schema) {
    std::vector<std::string> texts;
    const auto listed = schema.contains("const") ? Json::array({schema["const"]}) : schema.value("enum", Json());
    for (const auto& item : listed)
        if (item.is_string()) texts.push_back(item.get<std::string>());
    return texts;
}

class Writer {
  public:
    Writer(const Vocabulary& vocabulary, const ReplyOptions& reply, ToolChoice choice)
        : vocabulary_(vocabulary), reply_(reply), format_(*reply.format), choice_(std::move(choice)) {}

    std::string write() {
        const auto open = format_.open;
        const bool begins_with_token = !open.empty() && items(open).starts_with("<[");
        const bool has_schema = !choice_.content_schema.empty() && !choice_.is_required;
        if (!choice_.is_required && !has_schema && (open.empty() || (begins_with_token && items(open).contains('"'))))
            return {};
        text_ = "%llguidance {}\n";
        const auto before = reasoning();
        const bool may_not_end = reply_.begins_in_reasoning && !choice_.is_required;
        const auto answer = choice_.is_required ? std::string("section further")
                            : has_schema        ? std::string("(section further | content_json)")
                            : begins_with_token ? fmt::format("content? ({} rest further)?", items(open))
                                                : std::string("(CONTENT | lead rest further)");
        rule("start", before + answer + (may_not_end ? " | ENDLESS" : ""));
        if (may_not_end)
            rule("ENDLESS",
                 fmt::format(R"(~/(.|\n)*{}(.|\n)*/)", expression(reply_.reasoning.value_or(ReasoningMarks{}).end)));
        if (choice_.is_required || has_schema) {
            rule("section", items(open) + " rest");
            if (has_schema) write_schema("content_json", Json::parse(choice_.content_schema, nullptr, false));
        } else if (begins_with_token) {
            rule("content", R"(/(.|\n)+/)");
        } else {
            const auto mark = expression(open);
            rule("CONTENT", fmt::format(R"(~/(.|\n)*{}(.|\n)*/)", mark));
            std::string lead = fmt::format(R"(/(.|\n)*{}/)", mark);
            if (reply_.reasoning && !reply_.begins_in_reasoning)
                lead += fmt::format(R"( & ~/\s*{}(.|\n)*/)", expression(reply_.reasoning->begin));
            rule("lead[lazy]", lead);
        }
        rule("further", choice_.is_parallel && !open.empty() ? R"((/\n?/ )" + items(open) + " rest)*" : R"("")");
        rule("rest", section());
        write_calls();
        return std::move(text_);
    }

  private:
    /// A grammar that is too large is not written to its end: make_lark_rule() will refuse it.
    bool is_too_large() const { return text_.size() > kMaxGuideBytes; }

    void rule(std::string_view name, std::string_view right) {
        if (!is_too_large()) text_ += fmt::format("{}: {}\n", name, right);
    }

    /// A literal, in which control tokens are tokens.
    std::string items(std::string_view text) const {
        std::string result;
        std::string plain;
        const auto end_plain = [&] {
            if (!plain.empty()) result += (result.empty() ? "" : " ") + literal(plain);
            plain.clear();
        };
        for (size_t at = 0; at < text.size();) {
            const auto found = vocabulary_.controls().longest_at(text, at);
            if (found.n_bytes == 0 || vocabulary_.has_text(found.token)) {
                plain += text[at++];
                continue;
            }
            end_plain();
            result += fmt::format("{}<[{}]>", result.empty() ? "" : " ", found.token);
            at += found.n_bytes;
        }
        end_plain();
        return result.empty() ? R"("")" : result;
    }

    /// Like items(), but the token that ends the answer does not have to be written.
    std::string closing(std::string_view text) const {
        const auto found = vocabulary_.controls().longest_at(text, 0);
        const bool ends = found.n_bytes > 0 && vocabulary_.is_end_of_generation(found.token);
        return ends ? std::string(R"("")") : items(text);
    }

    /// What may come before the answer, with a space behind it.
    std::string reasoning() {
        if (!reply_.reasoning) return {};
        const auto& [begin, end] = *reply_.reasoning;
        const auto of_end = items(end);
        if (of_end.contains("<[")) {
            const auto turn = format_.turn.empty() ? "" : " " + items(format_.turn);
            const auto body = fmt::format(R"(/(.|\n)*/ {}{})", of_end, turn);
            rule("reasoning", reply_.begins_in_reasoning ? body : items(begin) + " " + body);
        } else {
            const auto body = fmt::format(R"((.|\n)*{}/)", expression(end));
            rule("reasoning[lazy]",
                 reply_.begins_in_reasoning ? "/" + body : fmt::format(R"(/\s*{}{})", expression(begin), body));
        }
        return reply_.begins_in_reasoning ? R"(reasoning /\s{0,2}/ )" : R"((reasoning /\s{0,2}/)? )";
    }

    /// A section with calls, behind its mark.
    std::string section() {
        const auto close = closing(format_.close);
        const auto& syntax = format_.syntax;
        const bool many = choice_.is_parallel;
        if (syntax.kind == SyntaxKind::python || syntax.is_list)
            return fmt::format(R"("[" call {} "]" {})", many ? R"((", " call)*)" : "", close);
        if (syntax.kind == SyntaxKind::json)
            return format_.open.empty() ? "call" : fmt::format(R"(/\n?/ call /\n?/ {})", close);
        if (format_.begin.empty()) return "call " + close;
        return fmt::format("({} call {}){} {}", items(format_.begin), items(format_.end), many ? "+" : "", close);
    }

    void write_calls() {
        std::string calls;
        for (size_t i = 0; i < reply_.tools.size(); i++) calls += fmt::format("{}call_{}", i == 0 ? "" : " | ", i);
        rule("call", calls);
        for (size_t i = 0; i < reply_.tools.size(); i++) write_call(i);
        if (format_.syntax.kind == SyntaxKind::parameters) write_text_value();
    }

    /// A text up to the first mark that ends it, which is what the reader takes for the value.
    void write_text_value() {
        const auto mark = format_.syntax.after_value;
        const size_t begin = mark.find_first_not_of('\n');
        const size_t end = mark.find_last_not_of('\n') + 1;
        rule("text_value", "until_mark " + literal(mark.substr(end)));
        rule("until_mark[lazy]", fmt::format(R"(/(.|\n)*{}/)", expression(mark.substr(begin, end - begin))));
    }

    void write_call(size_t i) {
        const auto name = fmt::format("call_{}", i);
        const auto& tool = reply_.tools[i];
        const auto& syntax = format_.syntax;
        const auto arguments = fmt::format("arguments_{}", i);
        switch (syntax.kind) {
            case SyntaxKind::json:
                rule(name, fmt::format(R"({} {} "}}")",
                                       literal(fmt::format(R"({{"{}": {}, "{}": )", syntax.name_key, literal(tool.name),
                                                           syntax.arguments_key)),
                                       arguments));
                return write_schema(arguments, with_definitions(object_schema(tool), tool));
            case SyntaxKind::named_json:
                rule(name, fmt::format("{} {} {} {} {}", items(std::string(syntax.before_name) + tool.name),
                                       syntax.name_is_id ? R"(/:[0-9]{1,3}/)" : R"("")", items(syntax.after_name),
                                       arguments, items(syntax.behind)));
                return write_schema(arguments, with_definitions(object_schema(tool), tool));
            case SyntaxKind::parameters:
                return rule(name, items(std::string(syntax.before_name) + tool.name + std::string(syntax.after_name)) +
                                      parameters(tool, i));
            case SyntaxKind::python:
                return rule(name, literal(tool.name + "(") + python_arguments(tool, i) + " \")\"");
        }
    }

    static Json object_schema(const Tool& tool) {
        Json schema = tool.parameters.is_object() ? tool.parameters : Json::object();
        if (!schema.contains("type")) schema["type"] = "object";
        return schema;
    }

    /// References in the schema of an argument are to that of the whole tool.
    static Json with_definitions(Json schema, const Tool& tool) {
        if (!schema.is_object()) schema = Json::object();
        for (const char* definitions : {"$defs", "definitions"})
            if (tool.parameters.is_object() && tool.parameters.contains(definitions))
                schema[definitions] = tool.parameters[definitions];
        return schema;
    }

    void write_schema(const std::string& name, Json schema) {
        if (is_too_large()) return;
        if (!schema.is_object()) schema = Json::object();
        schema["x-guidance"] = {{"lenient", true}, {"whitespace_pattern", kWhiteSpace}};
        rule(name, "%json " + schema.dump(-1, ' ', true, Json::error_handler_t::replace));
    }

    struct Argument {
        std::string key;
        std::string value;  // the name of its rule
        bool is_required = false;
        bool is_text = false;
    };

    /// The arguments of a tool, each with a rule for its value.
    std::vector<Argument> arguments_of(const Tool& tool, size_t i) {
        std::vector<Argument> arguments;
        const auto properties = tool.parameters.find("properties");
        if (properties == tool.parameters.end() || !properties->is_object()) return arguments;
        const auto required = tool.parameters.value("required", Json::array());
        for (const auto& [key, schema] : properties->items()) {
            Argument argument{.key = key,
                              .value = fmt::format("argument_{}_{}", i, arguments.size()),
                              .is_required = std::ranges::find(required, Json(key)) != required.end(),
                              .is_text = is_text_schema(schema)};
            if (argument.is_text && format_.syntax.kind == SyntaxKind::parameters)
                argument.value = write_plain_text(argument.value, schema);
            else
                write_schema(argument.value, with_definitions(schema, tool));
            arguments.push_back(std::move(argument));
        }
        return arguments;
    }

    /// A text without quotes, with the mark behind it. Returns the name of its rule.
    std::string write_plain_text(const std::string& name, const Json& schema) {
        std::string texts;
        for (const auto& text : listed_texts(schema)) texts += (texts.empty() ? "" : " | ") + literal(text);
        if (texts.empty()) return "text_value";
        rule(name, fmt::format("({}) {}", texts, items(format_.syntax.after_value)));
        return name;
    }

    std::string parameters(const Tool& tool, size_t i) {
        const auto& syntax = format_.syntax;
        std::string result;
        for (const auto& argument : arguments_of(tool, i)) {
            const auto head = std::string(syntax.before_key) + argument.key + std::string(syntax.after_key);
            const auto value = argument.is_text ? argument.value : argument.value + " " + items(syntax.after_value);
            const auto written = items(head) + " " + value;
            result += argument.is_required ? " " + written : fmt::format(" ({})?", written);
        }
        return result;
    }

    std::string python_arguments(const Tool& tool, size_t i) {
        std::string required;
        std::string optional;
        std::string any;
        for (const auto& argument : arguments_of(tool, i)) {
            const auto written = literal(argument.key + "=") + " " + argument.value;
            if (argument.is_required)
                required += (required.empty() ? " " : R"( ", " )") + written;
            else
                optional += fmt::format(R"( (", " {})?)", written), any += (any.empty() ? "" : " | ") + written;
        }
        if (!required.empty()) return required + optional;
        return any.empty() ? "" : fmt::format(R"( (({0}) (", " ({0}))*)?)", any);
    }

    const Vocabulary& vocabulary_;
    const ReplyOptions& reply_;
    const ReplyFormat& format_;
    ToolChoice choice_;
    std::string text_;
};

}  // namespace

std::string tool_grammar(const Vocabulary& vocabulary, const ReplyOptions& reply, ToolChoice choice) {
    return Writer(vocabulary, reply, std::move(choice)).write();
}

}  // namespace cake
