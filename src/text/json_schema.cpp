#include "text/json_schema.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <format>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "text/grammar.hpp"
#include "text/json_grammar.hpp"
#include "text/schema_scan.hpp"
#include "text/utf8.hpp"

namespace cake {

namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMostBytes = size_t{64} << 10U;
constexpr size_t kMostProperties = 1000;
constexpr size_t kMostValues = 1000;
constexpr uint32_t kMostTimes = 256;
constexpr double kLargestBound = 1e15;

// A schema is of one of these forms; else it says a type.
constexpr std::array<std::string_view, 6> kForms = {"$ref", "anyOf", "oneOf", "allOf", "enum", "const"};

constexpr std::array<std::string_view, 7> kTypes = {"string", "integer", "number", "boolean",
                                                    "null",   "object",  "array"};

struct Keyword {
    std::string_view name;
    std::string_view type;  // the one that it says something about
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

/// A JSON pointer to what stands there.
std::string below(const std::string& at, std::string_view key) {
    std::string escaped;
    for (const char c : beginning_of(key)) escaped += c == '~' ? "~0" : c == '/' ? "~1" : std::string(1, c);
    return at + "/" + escaped;
}

std::unexpected<Error> fail_at(const std::string& at, std::string_view sentence) {
    return fail(std::format("the JSON schema at {}: {}", at, sentence));
}

/// An integer, also where it is written as 3.0.
std::optional<int64_t> integer_of(const Json& number) {
    if (!number.is_number()) return std::nullopt;
    const auto value = number.get<double>();
    if (!(std::abs(value) <= kLargestBound) || value != std::floor(value)) return std::nullopt;
    return static_cast<int64_t>(value);
}

bool is_of_type(const Json& value, std::string_view type) {
    if (type == "string") return value.is_string();
    if (type == "boolean") return value.is_boolean();
    if (type == "null") return value.is_null();
    if (type == "object") return value.is_object();
    if (type == "array") return value.is_array();
    if (type == "number") return value.is_number();
    return value.is_number_integer() || (value.is_number() && std::floor(value.get<double>()) == value.get<double>());
}

/// The one value.
std::string grammar_of_value(const Json& value) {
    if (!value.is_structured() || value.empty()) {
        if (value.is_object()) return R"("{" gap "}")";
        if (value.is_array()) return R"("[" gap "]")";
        return gbnf_literal(value.dump());
    }
    std::string content;
    for (const auto& [key, item] : value.items()) {
        content += content.empty() ? "gap " : R"( "," gap )";
        if (value.is_object()) content += gbnf_literal(Json(key).dump() + ":") + " space ";
        content += grammar_of_value(item);
    }
    return value.is_object() ? std::format(R"("{{" {} gap "}}")", content) : std::format(R"("[" {} gap "]")", content);
}

std::string alternatives_of(const std::vector<std::string>& alternatives) {
    std::string text;
    for (const auto& alternative : alternatives) text += (text.empty() ? "" : " | ") + alternative;
    return text;
}

class Translation {
  public:
    explicit Translation(const Json& schema) : schema_(schema) {}

    Result<std::string> grammar() {
        if (auto root = define(schema_, "#", "root"); !root) return std::unexpected(root.error());
        while (!open_.empty()) {
            const auto [schema, at, rule] = open_.back();
            open_.pop_back();
            if (auto defined = define(*schema, at, rule); !defined) return std::unexpected(defined.error());
        }
        if (auto checked = check_circles(); !checked) return std::unexpected(checked.error());
        return rules_.text();
    }

  private:
    struct Reference {
        const Json* schema = nullptr;
        std::string at;
        std::string rule;
    };
    struct Rule {
        std::string at;
        std::vector<std::string> begins_with;  // rules, before anything is written
    };

    Result<void> define(const Json& schema, const std::string& at, const std::string& rule) {
        rules_of_references_[rule].at = at;
        const auto value = rule_of(schema, at, rule);
        if (!value) return std::unexpected(value.error());
        rules_.define(rule, *value);
        return {};
    }

    /// The name of a rule of the schema's values. `from` is the rule of a reference whose values these are themselves;
    /// empty where they stand in something.
    Result<std::string> rule_of(const Json& schema, const std::string& at, const std::string& from) {
        if (schema == true) return "value";
        if (schema == false) return fail_at(at, "false allows nothing: leave it out");
        if (!schema.is_object()) return fail_at(at, "a schema is an object, true or false");
        if (auto checked = check_keywords(schema, at); !checked) return std::unexpected(checked.error());
        if (schema.contains("enum")) return listed(schema["enum"], schema, below(at, "enum"));
        if (schema.contains("const")) return listed(Json::array({schema["const"]}), schema, below(at, "const"));
        if (schema.contains("$ref")) return reference(schema["$ref"], below(at, "$ref"), from);
        if (schema.contains("anyOf")) return any_of(schema["anyOf"], below(at, "anyOf"), from);
        if (schema.contains("oneOf")) return any_of(schema["oneOf"], below(at, "oneOf"), from);
        if (schema.contains("allOf")) return all_of(schema["allOf"], below(at, "allOf"), from);
        return typed(schema, at);
    }

    static Result<void> check_keywords(const Json& schema, const std::string& at) {
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

    static std::unexpected<Error> cannot_stand_beside(const std::string& at, std::string_view key,
                                                      std::string_view form) {
        return fail_at(below(at, key),
                       std::format("\"{}\" beside \"{}\" is not supported: write both into one", key, form));
    }

    /// The types that a schema names, or else those that its keywords speak of; none where it has no such keywords.
    static Result<std::vector<std::string_view>> types_of(const Json& schema, const std::string& at) {
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
                                   "a type is string, integer, number, boolean, null, object or array");
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
                               std::format("\"{}\" is supported for the type integer alone", keyword.name));
            }
            if (!is_named) add(keyword.type);
        }
        return types;
    }

    Result<std::string> typed(const Json& schema, const std::string& at) {
        const auto types = types_of(schema, at);
        if (!types) return std::unexpected(types.error());
        if (types->empty()) return "value";
        std::vector<std::string> rules;
        for (const auto type : *types) {
            auto rule = type == "object"    ? object(schema, at)
                        : type == "array"   ? array(schema, at)
                        : type == "string"  ? text(schema, at)
                        : type == "integer" ? integer(schema, at)
                        : type == "null"    ? R"("null")"
                                            : Result<std::string>(std::string(type));
            if (!rule) return rule;
            rules.push_back(std::move(*rule));
        }
        return rules.size() == 1 ? rules[0] : rules_.add("choice", alternatives_of(rules));
    }

    /// A number of characters or items.
    static Result<std::optional<uint32_t>> count(const Json& schema, const char* key, const std::string& at) {
        const auto found = schema.find(key);
        if (found == schema.end()) return std::nullopt;
        const auto number = integer_of(*found);
        if (!number || *number < 0 || *number > kMostTimes)
            return fail_at(below(at, key), std::format("\"{}\" is a whole number from 0 to {}", key, kMostTimes));
        return static_cast<uint32_t>(*number);
    }

    struct Counts {
        uint32_t least = 0;
        std::optional<uint32_t> most;
    };
    static Result<Counts> counts(const Json& schema, const char* least_key, const char* most_key,
                                 const std::string& at) {
        const auto least = count(schema, least_key, at);
        if (!least) return std::unexpected(least.error());
        const auto most = count(schema, most_key, at);
        if (!most) return std::unexpected(most.error());
        if (least->value_or(0) > most->value_or(kMostTimes))
            return fail_at(below(at, least_key), std::format("\"{}\" is more than \"{}\"", least_key, most_key));
        return Counts{.least = least->value_or(0), .most = *most};
    }

    Result<std::string> text(const Json& schema, const std::string& at) {
        const auto length = counts(schema, "minLength", "maxLength", at);
        if (!length) return std::unexpected(length.error());
        if (const auto format = schema.find("format"); format != schema.end()) {
            for (const char* name : {"date", "time", "date-time", "uuid"}) {
                if (*format != name) continue;
                if (schema.contains("minLength") || schema.contains("maxLength")) {
                    return fail_at(below(at, "format"),
                                   "a format beside minLength or maxLength is not supported: leave them out");
                }
                return name;
            }
            return fail_at(below(at, "format"),
                           "of \"format\", date, time, date-time and uuid are supported: leave it out");
        }
        if (length->least == 0 && !length->most) return "string";
        return rules_.add("string",
                          std::format(R"("\"" {} "\"")", gbnf_times("character", length->least, length->most)));
    }

    /// The nearest integer that a bound allows: the least or the most.
    static Result<std::optional<int64_t>> bound(const Json& schema, const char* key, bool is_least, bool is_exclusive,
                                                const std::string& at) {
        const auto found = schema.find(key);
        if (found == schema.end()) return std::nullopt;
        const double value = found->is_number() ? found->get<double>() : 2 * kLargestBound;
        if (!(std::abs(value) <= kLargestBound))
            return fail_at(below(at, key), std::format("\"{}\" is a number from -1e15 to 1e15", key));
        const auto floor = static_cast<int64_t>(std::floor(value));
        const auto ceiling = static_cast<int64_t>(std::ceil(value));
        if (is_least) return is_exclusive ? floor + 1 : ceiling;
        return is_exclusive ? ceiling - 1 : floor;
    }

    Result<std::string> integer(const Json& schema, const std::string& at) {
        std::optional<int64_t> least;
        std::optional<int64_t> most;
        for (const bool is_exclusive : {false, true}) {
            const auto low = bound(schema, is_exclusive ? "exclusiveMinimum" : "minimum", true, is_exclusive, at);
            if (!low) return std::unexpected(low.error());
            const auto high = bound(schema, is_exclusive ? "exclusiveMaximum" : "maximum", false, is_exclusive, at);
            if (!high) return std::unexpected(high.error());
            if (*low) least = std::max(least.value_or(**low), **low);
            if (*high) most = std::min(most.value_or(**high), **high);
        }
        if (least && most && *least > *most) {
            return fail_at(at, std::format("no integer is at least {} (minimum, exclusiveMinimum) and at most {} "
                                           "(maximum, exclusiveMaximum)",
                                           *least, *most));
        }
        return least || most ? rules_.add("integer", integers_between(least, most)) : "integer";
    }

    Result<std::string> listed(const Json& values, const Json& schema, const std::string& at) {
        if (!values.is_array() || values.empty()) return fail_at(at, "\"enum\" is a list of values, at least one");
        n_values_ += values.size();
        if (n_values_ > kMostValues)
            return fail_at(at, std::format("the schema has more than {} values of \"enum\"", kMostValues));
        const auto types = types_of(schema, at.substr(0, at.rfind('/')));
        if (!types) return std::unexpected(types.error());

        std::set<std::string> seen;
        std::vector<std::string> strings;  // without their opening quote, which most candidates fail at once
        std::vector<std::string> alternatives;
        for (const auto& value : values) {
            const auto fits = [&](std::string_view type) { return is_of_type(value, type); };
            if (!types->empty() && std::ranges::none_of(*types, fits)) continue;
            const auto json = value.dump();
            if (!seen.insert(json).second) continue;
            if (value.is_string()) {
                strings.push_back(gbnf_literal(std::string_view(json).substr(1)));
            } else {
                alternatives.push_back(grammar_of_value(value));
            }
        }
        if (seen.empty()) return fail_at(at, "no value is of the schema's type");
        if (!strings.empty())
            alternatives.insert(alternatives.begin(), std::format(R"("\"" ( {} ))", alternatives_of(strings)));
        return rules_.add("values", alternatives_of(alternatives));
    }

    Result<std::string> any_of(const Json& schemas, const std::string& at, const std::string& from) {
        if (!schemas.is_array() || schemas.empty()) return fail_at(at, "this is a list of schemas, at least one");
        std::vector<std::string> rules;
        for (size_t i = 0; i < schemas.size(); i++) {
            if (schemas[i] == false) continue;
            auto rule = rule_of(schemas[i], below(at, std::to_string(i)), from);
            if (!rule) return rule;
            if (!std::ranges::contains(rules, *rule)) rules.push_back(std::move(*rule));
        }
        if (rules.empty()) return fail_at(at, "none of the schemas allows anything");
        return rules.size() == 1 ? rules[0] : rules_.add("choice", alternatives_of(rules));
    }

    Result<std::string> all_of(const Json& schemas, const std::string& at, const std::string& from) {
        if (!schemas.is_array() || schemas.size() != 1)
            return fail_at(at, "\"allOf\" is supported with one schema alone: write them into one");
        return rule_of(schemas[0], below(at, "0"), from);
    }

    Result<std::string> reference(const Json& target, const std::string& at, const std::string& from) {
        std::string rule;
        if (target == "#") {
            rule = "root";
        } else if (const auto [schema, name] = target_of(target); schema == nullptr) {
            return fail_at(
                at, "a reference is \"#\", or \"#/$defs/NAME\" or \"#/definitions/NAME\" of a schema that is there");
        } else if (const auto found = rules_by_target_.find(schema); found != rules_by_target_.end()) {
            rule = found->second;
        } else {
            rule = std::format("ref-{}", rules_by_target_.size() + 1);
            rules_by_target_.emplace(schema, rule);
            open_.push_back({.schema = schema, .at = name, .rule = rule});
        }
        if (!from.empty()) rules_of_references_[from].begins_with.push_back(rule);
        return rule;
    }

    std::pair<const Json*, std::string> target_of(const Json& target) const {
        if (!target.is_string()) return {};
        for (const std::string key : {"$defs", "definitions"}) {
            std::string_view text = target.get_ref<const std::string&>();
            const auto prefix = "#/" + key + "/";
            if (!text.starts_with(prefix) || !schema_.is_object() || !schema_.contains(key)) continue;
            std::string name;
            for (text.remove_prefix(prefix.size()); !text.empty(); text.remove_prefix(1)) {
                if (text[0] == '/') return {};
                const bool is_escape = text.starts_with("~0") || text.starts_with("~1");
                name += is_escape ? (text[1] == '0' ? '~' : '/') : text[0];
                if (is_escape) text.remove_prefix(1);
            }
            const auto& definitions = schema_[key];
            if (!definitions.is_object() || !definitions.contains(name)) return {};
            return {&definitions[name], below("#/" + key, name)};
        }
        return {};
    }

    /// References that come back to themselves before anything is written have no value.
    Result<void> check_circles() const {
        enum class State : uint8_t { fresh, open, done };
        std::map<std::string, State> states;
        for (const auto& [start, unused] : rules_of_references_) {
            std::vector<std::pair<std::string, size_t>> way = {
                {start, 0}};  // rules, and which reference of each is next
            while (!way.empty()) {
                auto& [name, next] = way.back();
                const auto& rule = rules_of_references_.at(name);
                if (states[name] == State::done || next == rule.begins_with.size()) {
                    states[name] = State::done;
                    way.pop_back();
                    continue;
                }
                states[name] = State::open;
                const std::string to = rule.begins_with[next++];
                if (states[to] == State::open)
                    return fail_at(rules_of_references_.at(to).at, "this refers to itself with nothing around it");
                way.emplace_back(to, 0);
            }
        }
        return {};
    }

    struct Property {
        std::string key;   // as JSON
        std::string rule;  // of the value; none where it may not be there
        bool is_required = false;
    };

    /// The rule of other properties' values; empty where there are to be none.
    Result<std::string> other_values(const Json& schema, const std::string& at) {
        const auto found = schema.find("additionalProperties");
        if (found == schema.end()) return schema.contains("properties") ? "" : "value";
        if (*found == false) return "";
        return rule_of(*found, below(at, "additionalProperties"), "");
    }

    static Result<std::vector<std::string>> required_of(const Json& schema, const std::string& at) {
        const auto found = schema.find("required");
        if (found == schema.end()) return std::vector<std::string>();
        if (!found->is_array() || !std::ranges::all_of(*found, [](const Json& key) { return key.is_string(); }))
            return fail_at(below(at, "required"), "\"required\" is a list of names");
        std::vector<std::string> names;
        std::set<std::string> seen;
        for (const auto& name : *found) {
            if (seen.insert(name).second) names.push_back(name);
        }
        return names;
    }

    Result<std::vector<Property>> properties_of(const Json& schema, const std::string& others, const std::string& at) {
        const auto names = required_of(schema, at);
        if (!names) return std::unexpected(names.error());
        std::set<std::string> required(names->begin(), names->end());
        std::vector<Property> properties;
        if (const auto found = schema.find("properties"); found != schema.end()) {
            const auto here = below(at, "properties");
            if (!found->is_object()) return fail_at(here, "\"properties\" is an object of schemas");
            for (const auto& [key, value] : found->items()) {
                Property property{.key = Json(key).dump(), .rule = "", .is_required = required.erase(key) > 0};
                if (value != false || property.is_required) {
                    auto rule = rule_of(value, below(here, key), "");
                    if (!rule) return std::unexpected(rule.error());
                    property.rule = std::move(*rule);
                }
                properties.push_back(std::move(property));
            }
        }
        for (const auto& name : *names) {
            if (!required.contains(name)) continue;
            if (others.empty()) {
                return fail_at(below(at, "required"),
                               std::format("the name \"{}\" is not among the properties", beginning_of(name)));
            }
            properties.push_back({.key = Json(name).dump(), .rule = others, .is_required = true});
        }
        n_properties_ += properties.size();
        if (n_properties_ > kMostProperties)
            return fail_at(at, std::format("the schema has more than {} properties", kMostProperties));
        return properties;
    }

    /// One rule for each property: it and what comes behind it, or, where it may be left out, the next property's rule.
    Result<std::string> object(const Json& schema, const std::string& at) {
        const auto others = other_values(schema, at);
        if (!others) return std::unexpected(others.error());
        auto properties = properties_of(schema, *others, at);
        if (!properties) return std::unexpected(properties.error());

        std::string next;  // the rule of what may stand behind the opening quote of a property here
        bool may_end = true;
        if (!others->empty()) {
            std::vector<std::string> keys;
            for (const auto& property : *properties) keys.push_back(property.key);
            const auto member =
                rules_.add("other-member", std::format(R"({} "\":" space {})", rules_.other_than(keys), *others));
            next = rules_.add("members", std::format(R"({0} ( "," gap "\"" {0} )* gap "}}")", member));
        }
        for (size_t i = properties->size(); i-- > 0;) {
            const auto& property = (*properties)[i];
            if (property.rule.empty()) continue;
            const auto more = std::format(R"("," gap "\"" {})", next);
            const std::string end = R"(gap "}")";
            const auto behind = next.empty() ? end : may_end ? std::format("( {} | {} )", more, end) : more;
            auto content =
                std::format("{} space {} {}", gbnf_literal(property.key.substr(1) + ":"), property.rule, behind);
            if (!property.is_required && !next.empty()) content += " | " + next;
            next = rules_.add("members", content);
            may_end = may_end && !property.is_required;
        }
        if (next.empty()) return rules_.add("object", R"("{" gap "}")");
        return rules_.add("object", may_end ? std::format(R"("{{" gap ( "\"" {} | "}}" ))", next)
                                            : std::format(R"("{{" gap "\"" {})", next));
    }

    struct Items {
        std::vector<std::string> first;  // the rules of those that have one each
        std::string others;              // the rule of those behind them; empty where there are to be none
    };
    Result<Items> items_of(const Json& schema, const std::string& at) {
        Items result;
        const auto prefix = schema.find("prefixItems");
        if (prefix != schema.end()) {
            const auto here = below(at, "prefixItems");
            if (!prefix->is_array() || prefix->empty() || prefix->size() > kMostTimes)
                return fail_at(here, std::format("\"prefixItems\" is a list of 1 to {} schemas", kMostTimes));
            for (size_t i = 0; i < prefix->size(); i++) {
                auto rule = rule_of((*prefix)[i], below(here, std::to_string(i)), "");
                if (!rule) return std::unexpected(rule.error());
                result.first.push_back(std::move(*rule));
            }
        }
        const auto items = schema.find("items");
        if (items == schema.end()) {
            if (prefix == schema.end()) result.others = "value";
            return result;
        }
        if (*items == false) return result;
        if (items->is_array()) {
            return fail_at(below(at, "items"),
                           "a list of schemas is written \"prefixItems\"; \"items\" is the schema of all others");
        }
        auto others = rule_of(*items, below(at, "items"), "");
        if (!others) return std::unexpected(others.error());
        result.others = std::move(*others);
        return result;
    }

    Result<std::string> array(const Json& schema, const std::string& at) {
        const auto number = counts(schema, "minItems", "maxItems", at);
        if (!number) return std::unexpected(number.error());
        auto items = items_of(schema, at);
        if (!items) return std::unexpected(items.error());
        auto& [first, others] = *items;
        const uint32_t least = number->least;
        std::optional<uint32_t> most = number->most;
        const auto n_first = static_cast<uint32_t>(first.size());
        if (others.empty()) most = std::min(most.value_or(n_first), n_first);
        if (most && least > *most) {
            return fail_at(below(at, "minItems"),
                           std::format("\"minItems\" is {}, and the schema allows {} items", least, *most));
        }
        if (most == 0U) return rules_.add("array", R"("[" gap "]")");
        if (first.empty()) first.push_back(others);

        // From the end: what stands behind so many items.
        const std::string end = R"(gap "]")";
        auto n = static_cast<uint32_t>(first.size());
        std::string behind = end;
        if (!others.empty() && (!most || *most > n)) {
            const auto more = std::format(R"(( "," gap {} ))", others);
            const auto n_most = most ? std::optional(*most - n) : std::nullopt;
            behind = gbnf_times(more, least > n ? least - n : 0, n_most) + " " + end;
        }
        for (; n > 1; n--) {
            if (most && n > *most) continue;
            if (most == n) behind = end;
            const auto with = std::format(R"("," gap {} {})", first[n - 1], behind);
            behind = rules_.add("items", least >= n ? with : std::format("{} | {}", with, end));
        }
        if (most == 1U) behind = end;
        return rules_.add("array", least > 0 ? std::format(R"("[" gap {} {})", first[0], behind)
                                             : std::format(R"("[" gap ( {} {} | "]" ))", first[0], behind));
    }

    const Json& schema_;
    JsonRules rules_;
    std::vector<Reference> open_;  // to be defined
    std::map<const Json*, std::string> rules_by_target_;
    std::map<std::string, Rule> rules_of_references_;
    size_t n_properties_ = 0;
    size_t n_values_ = 0;
};

}  // namespace

Result<CheckedGrammar> grammar_of_schema(std::string_view json) {
    if (json.size() > kMostBytes)
        return fail(std::format("a JSON schema of more than {} bytes is not accepted", kMostBytes));
    SchemaScan scan;
    if (!Json::sax_parse(json, &scan)) return fail(scan.error());
    const auto schema = Json::parse(json, nullptr, false);
    auto grammar = Translation(schema).grammar();
    if (!grammar) return std::unexpected(grammar.error());
    auto checked = check_grammar(std::move(*grammar), kOwnGrammar);
    if (!checked) return fail(std::format("the JSON schema cannot be made a grammar: {}", checked.error().message));
    return checked;
}

const CheckedGrammar& grammar_of_any_json_object() {
    static const auto grammar = [] {
        JsonRules rules;
        rules.define("root", "object");
        return check_grammar(rules.text(), kOwnGrammar).value();
    }();
    return grammar;
}

}  // namespace cake
