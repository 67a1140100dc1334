#include "text/tool_call_reader.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "text/bounded_json.hpp"
#include "text/json_text.hpp"
#include "text/python_literal.hpp"
#include "text/white_space.hpp"

namespace cake {

namespace {

using Json = nlohmann::ordered_json;
using Calls = std::optional<std::vector<ToolCall>>;

constexpr int kMaxCallDepth = 64;

Json read_json(std::string_view text) {
    auto read = parse_bounded<Json>(text, kMaxCallDepth);
    return read ? std::move(*read) : Json(Json::value_t::discarded);
}

const Tool* tool_of(std::span<const Tool> tools, std::string_view name) {
    const auto found = std::ranges::find(tools, name, &Tool::name);
    return found == tools.end() ? nullptr : &*found;
}

/// A call, if the tool exists and the arguments are an object or a text that contains one.
std::optional<ToolCall> call_of(std::span<const Tool> tools, std::string_view name, Json arguments) {
    if (const auto* text = arguments.get_ptr<const std::string*>()) arguments = read_json(*text);
    if (tool_of(tools, name) == nullptr || !arguments.is_object()) return std::nullopt;
    return ToolCall{.id = {}, .name = std::string(name), .arguments = json_text(arguments)};
}

/// Reads a text from its beginning. White space is skipped before everything that is taken.
class Cursor {
  public:
    explicit Cursor(std::string_view text) : text_(text) {}

    /// Takes `mark` if it comes next. White space in it stands for any white space.
    bool take(std::string_view mark) {
        size_t at = at_;
        for (size_t i = 0; i < mark.size(); i++) {
            while (at < text_.size() && is_space(text_[at]) && (i == 0 || is_space(mark[i]) || is_space(mark[i - 1])))
                at++;
            if (is_space(mark[i])) continue;
            if (at == text_.size() || text_[at] != mark[i]) return false;
            at++;
        }
        at_ = at;
        return true;
    }

    /// The text before the first of `marks`, which is not taken; nothing if none of them follows.
    std::optional<std::string_view> until(std::initializer_list<std::string_view> marks) {
        size_t first = std::string_view::npos;
        for (const auto mark : marks)
            if (!trimmed(mark).empty()) first = std::min(first, text_.find(trimmed(mark), at_));
        if (first == std::string_view::npos) return std::nullopt;
        const size_t begin = std::exchange(at_, first);
        return text_.substr(begin, first - begin);
    }

    std::string_view rest() const { return text_.substr(at_); }
    void skip(size_t n) { at_ += n; }
    bool at_end() const { return trimmed(rest()).empty(); }

  private:
    std::string_view text_;
    size_t at_ = 0;
};

Calls read_json_calls(const CallSyntax& syntax, std::string_view section, std::span<const Tool> tools) {
    Json read = read_json(section);
    if (read.is_object()) read = Json::array({std::move(read)});
    if (!read.is_array() || read.empty()) return std::nullopt;
    std::vector<ToolCall> calls;
    for (auto& item : read) {
        if (item.is_object() && item.contains("function") && item["function"].is_object())
            item = Json(item["function"]);
        if (!item.is_object()) return std::nullopt;
        const auto name = item.find(syntax.name_key);
        auto arguments = item.find(syntax.arguments_key);
        // Small models take the key that others were trained with.
        for (const char* other : {"arguments", "parameters"})
            if (arguments == item.end()) arguments = item.find(other);
        if (name == item.end() || !name->is_string()) return std::nullopt;
        auto call = call_of(tools, name->get<std::string>(), arguments == item.end() ? Json::object() : *arguments);
        if (!call) return std::nullopt;
        if (item.contains("id") && item["id"].is_string()) call->id = item["id"].get<std::string>();
        calls.push_back(std::move(*call));
    }
    return calls;
}

/// The arguments before `end`, or in all of the text if `end` is empty.
std::optional<Json> read_arguments(Cursor& cursor, const CallSyntax& syntax, std::string_view end) {
    const auto behind = trimmed(syntax.behind);
    const auto until = trimmed(end);
    size_t at = 0;
    for (int i = 0; i < kMaxEnds; i++) {
        at = until.empty() ? cursor.rest().size() : cursor.rest().find(until, at);
        if (at == std::string_view::npos) return std::nullopt;
        auto text = trimmed(cursor.rest().substr(0, at));
        if (!behind.empty() && text.ends_with(behind)) text.remove_suffix(behind.size());
        if (auto read = read_json(text); read.is_object()) {
            cursor.skip(at + until.size());
            return std::optional<Json>(std::in_place, std::move(read));
        }
        if (until.empty()) return std::nullopt;
        at += until.size();
    }
    return std::nullopt;
}

std::optional<ToolCall> read_named_json(Cursor& cursor, const ReplyFormat& format, std::span<const Tool> tools) {
    const auto& syntax = format.syntax;
    cursor.take(syntax.before_name);
    // Marks between the name and the arguments, such as <|constrain|>, may be missing: only the last one counts.
    auto after = trimmed(syntax.after_name);
    if (const size_t last = after.rfind("<|"); last != std::string_view::npos) after = after.substr(last);
    const auto head = cursor.until({after});
    if (!head || !cursor.take(after)) return std::nullopt;
    auto name = trimmed(*head);
    std::string id;
    if (!syntax.before_id.empty() && name.contains(syntax.before_id)) {
        const size_t mark = name.find(syntax.before_id);
        id = name.substr(mark + syntax.before_id.size());
        name = name.substr(0, mark);
    }
    if (syntax.name_is_id) {
        id = std::string(trimmed(syntax.before_name)) + std::string(name);
        name = name.substr(0, name.rfind(':'));
    }
    name = name.substr(0, std::min(name.find("<|"), name.find(' ')));
    const auto arguments = read_arguments(cursor, syntax, format.end);
    if (!arguments) return std::nullopt;
    auto call = call_of(tools, name, *arguments);
    if (call) call->id = std::move(id);
    return call;
}

/// The value of an argument that is written without quotes: JSON, unless its schema says that it is a text.
Json argument_of(const Tool& tool, std::string_view key, std::string_view text) {
    const auto properties = tool.parameters.find("properties");
    const bool has = properties != tool.parameters.end() && properties->is_object() && properties->contains(key);
    if (!has || !is_text_schema((*properties)[key])) {
        if (auto read = read_json(text); !read.is_discarded()) return read;
    }
    return std::string(text);
}

std::optional<ToolCall> read_parameters(Cursor& cursor, const ReplyFormat& format, std::span<const Tool> tools) {
    const auto& syntax = format.syntax;
    cursor.take(syntax.before_name);
    const auto head = cursor.until({syntax.after_name, syntax.before_key, format.end});
    const auto name = trimmed(head ? *head : cursor.rest());
    if (!head) cursor.skip(cursor.rest().size());
    cursor.take(trimmed(syntax.after_name));
    const Tool* tool = tool_of(tools, name);
    if (tool == nullptr) return std::nullopt;
    Json arguments = Json::object();
    while (cursor.take(syntax.before_key)) {
        const auto key = cursor.until({syntax.after_key});
        if (!key || !cursor.take(trimmed(syntax.after_key))) return std::nullopt;
        auto value = cursor.until({syntax.after_value});
        if (!value || !cursor.take(trimmed(syntax.after_value))) return std::nullopt;
        // Where the marks have line breaks, these are not part of the value.
        if (syntax.after_key.ends_with('\n') && value->starts_with('\n')) value->remove_prefix(1);
        if (syntax.after_value.starts_with('\n') && value->ends_with('\n')) value->remove_suffix(1);
        arguments[std::string(trimmed(*key))] = argument_of(*tool, trimmed(*key), *value);
    }
    if (!format.end.empty() && !cursor.take(format.end)) return std::nullopt;
    return ToolCall{.id = {}, .name = tool->name, .arguments = json_text(arguments)};
}

Calls read_python(std::string_view section, std::span<const Tool> tools) {
    PythonReader reader(section);
    if (!reader.take('[')) return std::nullopt;
    std::vector<ToolCall> calls;
    while (!reader.take(']')) {
        if (!calls.empty() && !reader.take(',')) return std::nullopt;
        const auto name = reader.name();
        if (!reader.take('(')) return std::nullopt;
        Json arguments = Json::object();
        while (!reader.take(')')) {
            if (!arguments.empty() && !reader.take(',')) return std::nullopt;
            const auto key = reader.name();
            if (key.empty() || !reader.take('=')) return std::nullopt;
            auto value = reader.value();
            if (!value) return std::nullopt;
            arguments[key] = std::move(*value);
        }
        auto call = call_of(tools, name, std::move(arguments));
        if (!call) return std::nullopt;
        calls.push_back(std::move(*call));
    }
    if (calls.empty() || !reader.at_end()) return std::nullopt;
    return calls;
}

}  // namespace

std::optional<std::vector<ToolCall>> read_tool_calls(const ReplyFormat& format, std::string_view section,
                                                     std::span<const Tool> tools) {
    const auto kind = format.syntax.kind;
    if (kind == CallSyntax::Kind::json) return read_json_calls(format.syntax, section, tools);
    if (kind == CallSyntax::Kind::python) return read_python(section, tools);
    std::vector<ToolCall> calls;
    Cursor cursor(section);
    do {
        if (!cursor.take(format.begin)) return std::nullopt;
        auto call = kind == CallSyntax::Kind::named_json ? read_named_json(cursor, format, tools)
                                                         : read_parameters(cursor, format, tools);
        if (!call) return std::nullopt;
        calls.push_back(std::move(*call));
    } while (!cursor.at_end());
    return calls;
}

}  // namespace cake
