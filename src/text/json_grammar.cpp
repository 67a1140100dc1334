#include "text/json_grammar.hpp"

#include <algorithm>
#include <format>
#include <map>
#include <vector>

#include "text/utf8.hpp"

namespace cake {

namespace {

constexpr std::string_view kRules = R"(value ::= object | array | string | number | boolean | "null"
object ::= "{" gap ( member ( "," gap member )* gap )? "}"
member ::= string ":" space value
array ::= "[" gap ( value ( "," gap value )* gap )? "]"
string ::= "\"" character* "\""
character ::= [\x20-\x21\x23-\x5B\x5D-\uD7FF\uE000-\U0010FFFF] | "\\" ( ["\\/bfnrt] | "u" code )
code ::= [0-9a-cA-CeEfF] hex{3} | [dD] [0-7] hex{2} | [dD] [89abAB] hex{2} "\\u" [dD] [c-fC-F] hex{2}
hex ::= [0-9a-fA-F]
number ::= "-"? ( "0" | [1-9] [0-9]{0,19} ) ( "." [0-9]{1,20} )? ( [eE] [-+]? [0-9]{1,2} )?
integer ::= "0" | "-"? [1-9] [0-9]{0,19}
boolean ::= "true" | "false"
date ::= "\"" day "\""
time ::= "\"" clock "\""
date-time ::= "\"" day "T" clock "\""
day ::= [0-9]{4} "-" month-and-day | leap-year "-02-29"
month-and-day ::= "02-" to-28 | ( "0" [469] | "11" ) "-" ( to-28 | "29" | "30" ) | ( "0" [13578] | "1" [02] ) "-" ( to-28 | "29" | "3" [01] )
to-28 ::= "0" [1-9] | "1" [0-9] | "2" [0-8]
leap-year ::= [0-9]{2} ( "0" [48] | [2468] [048] | [13579] [26] ) | ( [02468] [048] | [13579] [26] ) "00"
clock ::= hour ":" [0-5] [0-9] ":" [0-5] [0-9] ( "." [0-9]{1,9} )? ( "Z" | [-+] hour ":" [0-5] [0-9] )
hour ::= [01] [0-9] | "2" [0-3]
uuid ::= "\"" hex{8} "-" hex{4} "-" hex{4} "-" hex{4} "-" hex{12} "\""
space ::= " "?
gap ::= ( " " | "\n" [ \t]{0,32} )?
)";

constexpr size_t kMaxDigits = 20;  // max digits of a number, as in the rules above

std::string digits(size_t n) {
    return n == 0 ? "" : gbnf_times("[0-9]", static_cast<uint32_t>(n), static_cast<uint32_t>(n));
}

std::string digit(char least, char most) {
    return least == most ? std::format("\"{}\"", least) : std::format("[{}-{}]", least, most);
}

std::string joined(std::string_view a, std::string_view b) {
    return a.empty() || b.empty() ? std::format("{}{}", a, b) : std::format("{} {}", a, b);
}

std::string one_of(const std::vector<std::string>& alternatives) {
    std::string text;
    for (const auto& alternative : alternatives) text += (text.empty() ? "" : " | ") + alternative;
    return alternatives.size() == 1 ? text : "( " + text + " )";
}

/// Expression for the numbers from `least` to `most`, which must have the same number of digits.
std::string digits_between(std::string_view least, std::string_view most) {
    if (least.find_first_not_of('0') == std::string_view::npos && most.find_first_not_of('9') == std::string_view::npos)
        return digits(least.size());
    const auto least_rest = least.substr(1);
    const auto most_rest = most.substr(1);
    if (least[0] == most[0]) return joined(digit(least[0], least[0]), digits_between(least_rest, most_rest));

    const std::string nines(most_rest.size(), '9');
    const std::string zeros(least_rest.size(), '0');
    char first = least[0];  // first to last: leading digits after which any other digits may follow
    char last = most[0];
    std::vector<std::string> alternatives;
    if (least_rest != zeros) {
        alternatives.push_back(joined(digit(first, first), digits_between(least_rest, nines)));
        first++;
    }
    std::string behind;
    if (most_rest != nines) {
        behind = joined(digit(last, last), digits_between(zeros, most_rest));
        last--;
    }
    if (first <= last) alternatives.push_back(joined(digit(first, last), digits(least_rest.size())));
    if (!behind.empty()) alternatives.push_back(behind);
    return one_of(alternatives);
}

/// Expression for the numbers from `least` to `most`, without a sign. Without `most`, there is no upper limit.
std::string naturals_between(uint64_t least, std::optional<uint64_t> most) {
    const std::string low = std::to_string(least);
    const std::string high = most ? std::to_string(*most) : std::string(kMaxDigits, '9');
    if (low.size() == high.size()) return digits_between(low, high);
    std::vector<std::string> alternatives = {digits_between(low, std::string(low.size(), '9'))};
    if (high.size() - low.size() > 1) {
        alternatives.push_back(
            "[1-9] " + gbnf_times("[0-9]", static_cast<uint32_t>(low.size()), static_cast<uint32_t>(high.size() - 2)));
    }
    alternatives.push_back(digits_between("1" + std::string(high.size() - 1, '0'), high));
    return one_of(alternatives);
}

/// The first character of the content of a JSON string; an escape counts as one character.
std::string_view first_unit(std::string_view text) {
    constexpr size_t kCode = 6;
    if (text[0] == '\\') return text.substr(0, text[1] == 'u' ? kCode : 2);
    return text.substr(0, std::max(utf8_character(text, 0).n_bytes, 1U));
}

/// Set of the characters that need no escape in a string, except those in `sorted`. A negated set is not used, because
/// in libllama it also allows characters outside Unicode.
std::string characters_without(std::span<const uint32_t> sorted) {
    struct Range {
        uint32_t first;
        uint32_t last;
    };
    const auto escaped = [](uint32_t character) {
        return character > 0xFFFF ? std::format("\\U{:08X}", character) : std::format("\\u{:04X}", character);
    };
    const auto range = [&](uint32_t first, uint32_t last) { return escaped(first) + "-" + escaped(last); };
    std::string set;
    for (auto [first, last] : {Range{0x20, 0x21}, Range{0x23, 0x5B}, Range{0x5D, 0xD7FF}, Range{0xE000, 0x10FFFF}}) {
        for (const uint32_t character : sorted) {
            if (character < first || character > last) continue;
            if (character > first) set += range(first, character - 1);
            first = character + 1;
        }
        if (first <= last) set += range(first, last);
    }
    return "[" + set + "]";
}

struct Node {
    std::map<std::string, size_t, std::less<>> children;  // index of each child, by its character
    bool ends = false;
};

std::vector<Node> tree_of(std::span<const std::string> strings) {
    std::vector<Node> nodes(1);
    for (std::string_view rest : strings) {
        rest = rest.substr(1, rest.size() - 2);
        size_t at = 0;
        while (!rest.empty()) {
            const auto unit = first_unit(rest);
            rest.remove_prefix(unit.size());
            const auto [child, is_new] = nodes[at].children.try_emplace(std::string(unit), nodes.size());
            at = child->second;
            if (is_new) nodes.emplace_back();
        }
        nodes[at].ends = true;
    }
    return nodes;
}

/// Content of the rule of a node: one of its children, another character followed by anything, or the end of the string
/// unless a string of the tree ends here.
std::string content_of(const Node& node, const std::vector<std::string>& names) {
    if (node.children.empty()) return "character+";
    std::string content;
    std::vector<uint32_t> taken;
    std::string escapes = "\"\\/bfnrt";
    for (const auto& [unit, child] : node.children) {
        content += std::format("{} {} | ", gbnf_literal(unit), names[child]);
        const bool is_escape = unit[0] == '\\';
        if ((is_escape && unit.size() == 2) || unit == "/") std::erase(escapes, unit.back());
        if (is_escape) continue;
        taken.push_back(utf8_character(unit, 0).value);
    }
    std::ranges::sort(taken);
    content += characters_without(taken) + " character*";
    std::string set;
    for (const char c : escapes) set += c == '\\' ? "\\\\" : std::string(1, c);
    if (!set.empty()) content += std::format(R"( | "\\" [{}] character*)", set);
    if (!node.ends) content += " | \"\"";
    return content;
}

}  // namespace

std::string gbnf_literal(std::string_view text) {
    std::string result = "\"";
    for (const char c : text) {
        switch (c) {
            case '"':
                result += "\\\"";
                break;
            case '\\':
                result += "\\\\";
                break;
            case '\n':
                result += "\\n";
                break;
            case '\r':
                result += "\\r";
                break;
            case '\t':
                result += "\\t";
                break;
            default:
                result += c;
        }
    }
    return result + '"';
}

std::string gbnf_times(std::string_view what, uint32_t least, std::optional<uint32_t> most) {
    if (most == 0U) return "\"\"";
    if (least == 1 && most == 1U) return std::string(what);
    if (least == 0 && most == 1U) return std::format("{}?", what);
    if (most == least) return std::format("{}{{{}}}", what, least);
    if (most) return std::format("{}{{{},{}}}", what, least, *most);
    if (least <= 1) return std::format("{}{}", what, least == 0 ? '*' : '+');
    return std::format("{}{{{},}}", what, least);
}

std::string JsonRules::add(std::string_view kind, const std::string& content) {
    const auto [found, is_new] = names_.try_emplace(content);
    if (is_new) {
        found->second = std::format("{}-{}", kind, names_.size());
        define(found->second, content);
    }
    return found->second;
}

void JsonRules::define(std::string_view name, std::string_view content) {
    text_ += std::format("{} ::= {}\n", name, content);
}

std::string JsonRules::other_than(std::span<const std::string> strings) {
    if (strings.empty()) return "character*";
    const auto nodes = tree_of(strings);
    std::vector<std::string> names(nodes.size());
    for (size_t i = nodes.size(); i-- > 0;) names[i] = add("other", content_of(nodes[i], names));  // children first
    return names[0];
}

std::string JsonRules::text() const {
    return std::string(kRules) + text_;
}

std::string integers_between(std::optional<int64_t> least, std::optional<int64_t> most) {
    const auto without_sign = [](int64_t number) { return static_cast<uint64_t>(number < 0 ? -number : number); };
    std::vector<std::string> alternatives;
    if (!least || *least < 0) {
        const uint64_t nearest = most && *most < 0 ? without_sign(*most) : 1;
        const auto farthest = least ? std::optional(without_sign(*least)) : std::nullopt;
        alternatives.push_back("\"-\" " + naturals_between(nearest, farthest));
    }
    if (!most || *most >= 0) {
        const uint64_t nearest = least && *least > 0 ? without_sign(*least) : 0;
        const auto farthest = most ? std::optional(without_sign(*most)) : std::nullopt;
        alternatives.push_back(naturals_between(nearest, farthest));
    }
    return one_of(alternatives);
}

}  // namespace cake
