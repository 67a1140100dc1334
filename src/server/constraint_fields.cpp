#include "server/constraint_fields.hpp"

#include <fmt/format.h>

#include <array>
#include <string>
#include <utility>

namespace cake::server {

namespace {

/// Nothing if the field does not constrain the answer.
using Read = Result<std::optional<Constraint>>;

Read read(Result<Constraint> made) {
    if (!made) return std::unexpected(made.error());
    return std::move(*made);
}

Result<std::string> text_of(const Json& value) {
    if (!value.is_string()) return fail("it must be a string");
    return value.get<std::string>();
}

/// A schema that is given as JSON, or as a text that contains JSON.
Read read_schema(const Json& value, bool lenient) {
    return read(Constraint::json_schema(value.is_string() ? value.get<std::string>() : value.dump(), lenient));
}

Read read_strict_schema(const Json& value) {
    return read_schema(value, false);
}

Read read_lenient_schema(const Json& value) {
    return read_schema(value, true);
}

Read read_regex(const Json& value) {
    auto text = text_of(value);
    if (!text) return std::unexpected(text.error());
    return read(Constraint::regex(std::move(*text)));
}

Read read_lark(const Json& value) {
    auto text = text_of(value);
    if (!text) return std::unexpected(text.error());
    return read(Constraint::lark(std::move(*text)));
}

Read read_grammar(const Json& value) {
    auto text = text_of(value);
    if (!text) return std::unexpected(text.error());
    if (text->empty()) return std::nullopt;
    if (text->starts_with("%llguidance")) return read(Constraint::lark(std::move(*text)));
    return read(Constraint::gbnf(std::move(*text)));
}

/// One of several texts.
Read read_choice(const Json& value) {
    if (!value.is_array() || value.empty()) return fail("it must be an array of strings");
    std::string grammar = "start: ";
    for (const auto& choice : value) {
        if (!choice.is_string()) return fail("it must be an array of strings");
        if (&choice != &value.front()) grammar += " | ";
        grammar += choice.dump();
    }
    return read(Constraint::lark(std::move(grammar)));
}

Read read_json_object(const Json& value) {
    if (!value.is_boolean()) return fail("it must be true or false");
    if (!value.get<bool>()) return std::nullopt;
    return read(Constraint::json_object());
}

Read read_response_format(const Json& value) {
    const auto type = value.is_object() ? value.value("type", Json()) : Json();
    if (type == "text") return std::nullopt;
    if (type == "json_object") {
        const auto schema = value.find("schema");
        if (schema == value.end() || schema->is_null()) return read(Constraint::json_object());
        return read_lenient_schema(*schema);
    }
    const auto described = type == "json_schema" ? value.value("json_schema", Json()) : Json();
    const auto schema = described.is_object() ? described.find("schema") : described.end();
    if (schema == described.end()) {
        return fail(
            "it must be {\"type\": \"text\"}, {\"type\": \"json_object\"}, or "
            "{\"type\": \"json_schema\", \"json_schema\": {\"schema\": …}}");
    }
    const auto strict = described.value("strict", Json());
    if (!strict.is_null() && !strict.is_boolean()) return fail("json_schema.strict must be true or false");
    return read_schema(*schema, strict != true);
}

struct Kind {
    const char* name;
    Read (*read)(const Json& value);
};

template <size_t n>
const Kind* kind_of(const std::array<Kind, n>& kinds, std::string_view name) {
    for (const auto& kind : kinds)
        if (kind.name == name) return &kind;
    return nullptr;
}

Read read_structured_outputs(const Json& value) {
    constexpr std::array kKinds{
        Kind{"json", read_strict_schema},      Kind{"regex", read_regex},
        Kind{"choice", read_choice},           Kind{"grammar", read_lark},
        Kind{"json_object", read_json_object},
    };
    constexpr const char* kExpected = "it must be an object with one of json, regex, choice, grammar and json_object";
    if (!value.is_object()) return fail(kExpected);
    Read result = std::nullopt;
    size_t n_given = 0;
    for (const auto& [name, given] : value.items()) {
        if (given.is_null()) continue;
        const auto* kind = kind_of(kKinds, name);
        if (kind == nullptr || ++n_given > 1) return fail(kExpected);
        result = kind->read(given);
        if (!result) return fail(name + ": " + result.error().message);
    }
    return result;
}

constexpr std::array kFields{
    Kind{"response_format", read_response_format},
    Kind{"grammar", read_grammar},
    Kind{"json_schema", read_lenient_schema},
    Kind{"structured_outputs", read_structured_outputs},
    Kind{"guided_json", read_strict_schema},
    Kind{"guided_regex", read_regex},
    Kind{"guided_choice", read_choice},
    Kind{"guided_grammar", read_lark},
};

}  // namespace

std::optional<Constraint> read_constraint(Body& body) {
    std::optional<Constraint> constraint;
    const char* first = nullptr;  // field that the constraint comes from
    for (const auto& field : kFields) {
        const Json* value = body.find(field.name);
        if (value == nullptr) continue;
        auto made = field.read(*value);
        if (!made) {
            body.wrong(field.name, fmt::format("{}: {}", field.name, made.error().message));
        } else if (*made && first != nullptr) {
            body.wrong(field.name, fmt::format("{} and {} exclude each other: leave one out", first, field.name));
        } else if (*made) {
            constraint = std::move(*made);
            first = field.name;
        }
    }
    return constraint;
}

std::optional<std::string> schema_of_answer(const Json& body) {
    const auto get = [](const Json& object, const char* name) {
        return object.is_object() ? object.value(name, Json()) : Json();
    };
    const auto format = get(body, "response_format");
    const auto type = get(format, "type");
    Json schema;
    if (type == "json_object") schema = get(format, "schema").is_null() ? Json{{"type", "object"}} : format["schema"];
    if (type == "json_schema") schema = get(get(format, "json_schema"), "schema");
    for (const char* name : {"json_schema", "guided_json"})
        if (schema.is_null()) schema = get(body, name);
    if (schema.is_null()) schema = get(get(body, "structured_outputs"), "json");
    if (schema.is_null()) return std::nullopt;
    return schema.is_string() ? schema.get<std::string>() : schema.dump();
}

}  // namespace cake::server
