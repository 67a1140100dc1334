#include "text/json_schema.hpp"

#include <algorithm>
#include <format>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "text/grammar.hpp"
#include "text/json_grammar.hpp"
#include "text/schema_keywords.hpp"
#include "text/schema_scan.hpp"
#include "text/schema_values.hpp"
#include "text/utf8.hpp"

namespace cake {

namespace {

using namespace json_schema;

constexpr size_t kMaxBytes = size_t{64} << 10U;
constexpr size_t kMaxProperties = 1000;
constexpr size_t kMaxValues = 1000;

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
        std::vector<std::string> begins_with;  // rules that it refers to with nothing written before them
    };

    Result<void> define(const Json& schema, const std::string& at, const std::string& rule) {
        rules_of_references_[rule].at = at;
        const auto value = rule_of(schema, at, rule);
        if (!value) return std::unexpected(value.error());
        rules_.define(rule, *value);
        return {};
    }

    /// Name of the rule for the values of a schema. `from`: the rule of a reference that stands for these values
    /// themselves; empty if the values are part of an object or array.
    Result<std::string> rule_of(const Json& schema, const std::string& at, const std::string& from) {
        if (schema == true) return "value";
        if (schema == false) return fail_at(at, "false allows nothing: leave it out");
        if (!schema.is_object()) return fail_at(at, "a schema must be an object, true or false");
        if (auto checked = check_keywords(schema, at); !checked) return std::unexpected(checked.error());
        if (schema.contains("enum")) return listed(schema["enum"], schema, below(at, "enum"));
        if (schema.contains("const")) return listed(Json::array({schema["const"]}), schema, below(at, "const"));
        if (schema.contains("$ref")) return reference(schema["$ref"], below(at, "$ref"), from);
        if (schema.contains("anyOf")) return any_of(schema["anyOf"], below(at, "anyOf"), from);
        if (schema.contains("oneOf")) return any_of(schema["oneOf"], below(at, "oneOf"), from);
        if (schema.contains("allOf")) return all_of(schema["allOf"], below(at, "allOf"), from);
        return typed(schema, at);
    }

    Result<std::string> typed(const Json& schema, const std::string& at) {
        const auto types = types_of(schema, at);
        if (!types) return std::unexpected(types.error());
        if (types->empty()) return "value";
        std::vector<std::string> rules;
        for (const auto type : *types) {
            auto rule = type == "object"    ? object(schema, at)
                        : type == "array"   ? array(schema, at)
                        : type == "string"  ? rule_of_string(schema, at, rules_)
                        : type == "integer" ? rule_of_integer(schema, at, rules_)
                        : type == "null"    ? R"("null")"
                                            : Result<std::string>(std::string(type));
            if (!rule) return rule;
            rules.push_back(std::move(*rule));
        }
        return rules.size() == 1 ? rules[0] : rules_.add("choice", alternatives_of(rules));
    }

    Result<std::string> listed(const Json& values, const Json& schema, const std::string& at) {
        n_values_ += values.size();
        if (n_values_ > kMaxValues)
            return fail_at(at, std::format("the schema has more than {} values of \"enum\"", kMaxValues));
        return rule_of_values(values, schema, at, rules_);
    }

    Result<std::string> any_of(const Json& schemas, const std::string& at, const std::string& from) {
        if (!schemas.is_array() || schemas.empty()) return fail_at(at, "this must be a list of at least one schema");
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
            return fail_at(at, "\"allOf\" is supported only with one schema: combine them into one");
        return rule_of(schemas[0], below(at, "0"), from);
    }

    Result<std::string> reference(const Json& target, const std::string& at, const std::string& from) {
        std::string rule;
        if (target == "#") {
            rule = "root";
        } else if (const auto [schema, name] = target_of(target); schema == nullptr) {
            return fail_at(
                at, "a reference must be \"#\", or \"#/$defs/NAME\" or \"#/definitions/NAME\" of a schema that exists");
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

    /// Fails if a reference leads back to itself before anything is written, because it has no value.
    Result<void> check_circles() const {
        enum class State : uint8_t { fresh, open, done };
        std::map<std::string, State> states;
        for (const auto& [start, unused] : rules_of_references_) {
            std::vector<std::pair<std::string, size_t>> way = {
                {start, 0}};  // rules on the way, each with the index of its next reference
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
        std::string key;   // name, as a JSON string
        std::string rule;  // rule of the value; empty if the property must not be present
        bool is_required = false;
    };

    /// Rule for the values of properties that are not listed; empty if these are not allowed.
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
            return fail_at(below(at, "required"), "\"required\" must be a list of names");
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
            if (!found->is_object()) return fail_at(here, "\"properties\" must be an object of schemas");
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
        if (n_properties_ > kMaxProperties)
            return fail_at(at, std::format("the schema has more than {} properties", kMaxProperties));
        return properties;
    }

    /// Adds one rule per property: the property and everything after it or, if it is optional, the rule of the next
    /// property.
    Result<std::string> object(const Json& schema, const std::string& at) {
        const auto others = other_values(schema, at);
        if (!others) return std::unexpected(others.error());
        auto properties = properties_of(schema, *others, at);
        if (!properties) return std::unexpected(properties.error());

        std::string next;  // rule for the text after the opening quote of a property name at this point
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
        std::vector<std::string> first;  // rules of the items that have their own (prefixItems)
        std::string others;              // rule of the items after these; empty if none are allowed
    };
    Result<Items> items_of(const Json& schema, const std::string& at) {
        Items result;
        const auto prefix = schema.find("prefixItems");
        if (prefix != schema.end()) {
            const auto here = below(at, "prefixItems");
            if (!prefix->is_array() || prefix->empty() || prefix->size() > kMaxTimes)
                return fail_at(here, std::format("\"prefixItems\" must be a list of 1 to {} schemas", kMaxTimes));
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
                           "a list of schemas belongs in \"prefixItems\"; \"items\" is the schema of all others");
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
                           std::format("\"minItems\" is {}, but the schema allows only {} items", least, *most));
        }
        if (most == 0U) return rules_.add("array", R"("[" gap "]")");
        if (first.empty()) first.push_back(others);

        // Build from the last item to the first: `behind` is an expression for the text after the first n items.
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
    std::vector<Reference> open_;  // references whose rules are not defined yet
    std::map<const Json*, std::string> rules_by_target_;
    std::map<std::string, Rule> rules_of_references_;
    size_t n_properties_ = 0;
    size_t n_values_ = 0;
};

}  // namespace

Result<CheckedGrammar> grammar_of_schema(std::string_view json) {
    if (json.size() > kMaxBytes)
        return fail(std::format("a JSON schema of more than {} bytes is not accepted", kMaxBytes));
    SchemaScan scan;
    if (!Json::sax_parse(json, &scan)) return fail(scan.error());
    const auto schema = Json::parse(json, nullptr, false);
    auto grammar = Translation(schema).grammar();
    if (!grammar) return std::unexpected(grammar.error());
    auto checked = check_grammar(std::move(*grammar), kOwnGrammar);
    if (!checked)
        return fail(std::format("the JSON schema cannot be made into a grammar: {}", checked.error().message));
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
