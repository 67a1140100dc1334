#include "text/schema_keywords.hpp"

#include <algorithm>
#include <array>
#include <format>

#include "text/utf8.hpp"

namespace cake::json_schema {

namespace {

// A schema has at most one of these keywords. Otherwise it is described by its types.
constexpr std::array<std::string_view, 6> kForms = {"$ref", "anyOf", "oneOf", "allOf", "enum", "const"};

constexpr std::array<std::string_view, 7> kTypes = {"string", "integer", "number", "boolean",
                                                    "null",   "object",  "array"};

struct Keyword {
    std::string_view name;
    std::string_view type;  // type of the values that it constrains
};
constexpr std::array<Keyword, 14> kKeywords = {{{"properties", "object"},
                                                {"required", "object"},
                                                {"additionalProperties", "object"},
                                                {"items", "array"},
                                                {"prefixItems", "array"},
                                                {"minItems", "array"},
                                                {"maxItems", "array"},
                                                {"minLength", "string"},
                                                {"maxLength", "string"},
                                                {"format", "string"},
                                                {"minimum", "integer"},
                                                {"maximum", "integer"},
                                                {"exclusiveMinimum", "integer"},
                                                {"exclusiveMaximum", "integer"}}};

constexpr std::array<std::string_view, 26> kSayNothing = {"$defs",
                                                          "definitions",
                                                          "title",
                                                          "description",
                                                          "default",
                                                          "examples",
                                                          "example",
                                                          "$schema",
                                                          "$id",
                                                          "$comment",
                                                          "$anchor",
                                                          "$vocabulary",
                                                          "deprecated",
                                                          "readOnly",
                                                          "writeOnly",
                                                          "contentEncoding",
                                                          "contentMediaType",
                                                          "contentSchema",
                                                          "strict",
                                                          "name",
                                                          "id",
                                                          "discriminator",
                                                          "externalDocs",
                                                          "xml",
                                                          "propertyOrdering",
                                                          "enumNames"};

bool is_keyword(std::string_view name) {
    return std::ranges::contains(kKeywords, name, &Keyword::name);
}

bool is_bound(const Keyword& keyword) {
    return keyword.type == "integer";
}

std::unexpected<Error> cannot_stand_beside(const std::string& at, std::string_view key, std::string_view form) {
    return fail_at(below(at, key),
                   std::format("\"{}\" together with \"{}\" is not supported: combine them into one", key, form));
}

}  // namespace

std::string below(const std::string& at, std::string_view key) {
    std::string escaped;
    for (const char c : beginning_of(key)) escaped += c == '~' ? "~0" : c == '/' ? "~1" : std::string(1, c);
    return at + "/" + escaped;
}

std::unexpected<Error> fail_at(const std::string& at, std::string_view sentence) {
    return fail(std::format("the JSON schema at {}: {}", at, sentence));
}

Result<void> check_keywords(const Json& schema, const std::string& at) {
    std::string_view form;
    for (const auto& [key, value] : schema.items()) {
        if (std::ranges::contains(kForms, key)) {
            if (!form.empty()) return cannot_stand_beside(at, key, form);
            form = key;
        } else if (!is_keyword(key) && key != "type" && !std::ranges::contains(kSayNothing, key) &&
                   !key.starts_with("x-")) {
            return fail_at(below(at, key), std::format("the keyword \"{}\" is not supported: leave it out, and say "
                                                       "in the description what it means",
                                                       beginning_of(key)));
        }
    }
    if (form.empty()) return {};
    for (const auto& [key, value] : schema.items()) {
        const bool is_type_of_values = key == "type" && (form == "enum" || form == "const");
        if (is_keyword(key) || (key == "type" && !is_type_of_values)) return cannot_stand_beside(at, key, form);
    }
    return {};
}

Result<std::vector<std::string_view>> types_of(const Json& schema, const std::string& at) {
    std::vector<std::string_view> types;
    const auto add = [&](std::string_view type) {
        if (!std::ranges::contains(types, type)) types.push_back(type);
    };
    if (const auto named = schema.find("type"); named != schema.end()) {
        const auto list = named->is_array() ? *named : Json::array({*named});
        for (const auto& type : list) {
            const auto known = std::ranges::find_if(kTypes, [&](std::string_view name) { return type == name; });
            if (known == kTypes.end()) {
                return fail_at(below(at, "type"),
                               "a type must be string, integer, number, boolean, null, object or array");
            }
            add(*known);
        }
        if (types.empty()) return fail_at(below(at, "type"), "an empty list of types allows nothing");
        if (std::ranges::contains(types, "number")) std::erase(types, "integer");
    }
    for (const auto& keyword : kKeywords) {
        if (!schema.contains(keyword.name)) continue;
        const bool is_named = schema.contains("type");
        if (is_bound(keyword) && (!is_named || std::ranges::contains(types, "number"))) {
            return fail_at(below(at, keyword.name),
                           std::format("\"{}\" is supported only for the type integer", keyword.name));
        }
        if (!is_named) add(keyword.type);
    }
    return types;
}

}  // namespace cake::json_schema
