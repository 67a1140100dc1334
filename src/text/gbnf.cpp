#include "text/gbnf.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "text/gbnf_scanner.hpp"
#include "text/utf8.hpp"

namespace cake {

namespace {

constexpr uint32_t kDeepest = 32;
constexpr uint32_t kMaxNestedTimes = 4096;
constexpr uint64_t kMaxRulesRepeated = 2000;  // limit of libllama
// Max rules and symbols after repetitions are expanded: about 30 MB in libllama.
constexpr size_t kMaxWrittenOut = 100'000;
constexpr size_t kMaxSymbols = 500'000;

std::vector<Bnf::Range> all_but(std::vector<Bnf::Range> ranges) {
    std::ranges::sort(ranges, {}, &Bnf::Range::first);
    std::vector<Bnf::Range> result;
    uint32_t next = 0;
    for (const auto& range : ranges) {
        if (range.first > next) result.push_back({.first = next, .last = range.first - 1});
        next = std::max(next, range.last + 1);
    }
    if (next <= kLastCharacter) result.push_back({.first = next, .last = kLastCharacter});
    return result;
}

class Parser : GbnfScanner {
  public:
    Parser(std::string_view grammar, size_t max_rules) : GbnfScanner(grammar), max_rules_(max_rules) {}

    Result<Bnf> parse() {
        skip_space(true);
        while (at < text.size()) {
            if (!rule()) return fail(error);
        }
        const auto root = rules_by_name_.find("root");
        if (root == rules_by_name_.end()) return fail("the grammar has no rule \"root\", with which every text begins");
        bnf_.root = root->second;
        for (const auto& rule : bnf_.rules) {
            if (rule.alternatives.empty())
                return fail(fmt::format("the grammar's rule \"{}\" is used but not defined", beginning_of(rule.name)));
        }
        return std::move(bnf_);
    }

  private:
    using Sequence = std::vector<Bnf::Symbol>;

    /// The last item of a sequence, which a repetition applies to.
    struct Last {
        size_t begin = 0;
        uint64_t n_times = 1;  // product of the repetitions in it
        uint64_t n_rules = 1;  // number of rules made for it, counted as in libllama
    };

    bool add_rule(std::string_view name, bool is_part, uint32_t& id) {
        if (bnf_.rules.size() >= kMaxWrittenOut)
            return wrong("the grammar is too large once its repetitions are expanded: make them smaller");
        id = static_cast<uint32_t>(bnf_.rules.size());
        bnf_.rules.push_back({.name = std::string(name), .is_part = is_part, .alternatives = {}});
        return true;
    }

    bool rule_named(std::string_view name, uint32_t& id) {
        if (const auto found = rules_by_name_.find(name); found != rules_by_name_.end()) {
            id = found->second;
            return true;
        }
        if (rules_by_name_.size() >= max_rules_)
            return wrong(fmt::format("a grammar of more than {} rules is not accepted", max_rules_));
        if (!add_rule(name, false, id)) return false;
        rules_by_name_.emplace(name, id);
        return true;
    }

    bool rule() {
        const auto its_name = name();
        if (its_name.empty()) return wrong("a rule must begin with its name, of letters, digits and hyphens");
        skip_space(false);
        if (!text.substr(at).starts_with("::="))
            return wrong(fmt::format("the name \"{}\" is not followed by ::=", beginning_of(its_name)));
        at += 3;
        skip_space(true);
        uint32_t id = 0;
        if (!rule_named(its_name, id)) return false;
        if (!bnf_.rules[id].alternatives.empty())
            return wrong(fmt::format("the rule \"{}\" is defined twice", beginning_of(its_name)));
        rule_name_ = its_name;
        if (uint64_t n_times = 1; !alternatives(id, 0, n_times)) return false;
        if (at < text.size() && peek() != '\n' && peek() != '\r')
            return wrong(fmt::format("a rule cannot continue with \"{}\"", beginning_of(text.substr(at), 10)));
        skip_space(true);
        return true;
    }

    bool alternatives(uint32_t id, uint32_t depth, uint64_t& n_times) {
        for (bool more = true; more;) {
            Sequence sequence;
            if (!read(sequence, depth, n_times) || !add_alternative(id, sequence)) return false;
            more = peek() == '|';
            if (more) {
                at++;
                skip_space(true);
            }
        }
        return true;
    }

    bool add_alternative(uint32_t id, const Sequence& sequence) {
        if (!fits(sequence.size() + 1)) return false;
        bnf_.rules[id].alternatives.push_back(static_cast<uint32_t>(bnf_.symbols.size()));
        bnf_.symbols.insert(bnf_.symbols.end(), sequence.begin(), sequence.end());
        bnf_.symbols.push_back({.kind = Bnf::Symbol::Kind::end, .value = 0});
        return true;
    }

    bool fits(size_t n_more) {
        if (bnf_.symbols.size() + n_more <= kMaxSymbols) return true;
        return wrong("the grammar is too large once its repetitions are expanded: make them smaller");
    }

    bool read(Sequence& sequence, uint32_t depth, uint64_t& n_times) {
        Last last;
        for (;;) {
            const char c = peek();
            const size_t end = sequence.size();
            bool good = true;
            if (c == '"') {
                last = {.begin = end};
                good = literal(sequence);
            } else if (c == '[') {
                last = {.begin = end};
                good = set(sequence);
            } else if (c == '.') {
                last = {.begin = end};
                at++;
                add_set(sequence, {{.first = 0, .last = kLastCharacter}});
            } else if (is_of_a_name(c)) {
                last = {.begin = end};
                uint32_t id = 0;
                good = rule_named(name(), id);
                sequence.push_back({.kind = Bnf::Symbol::Kind::rule, .value = id});
            } else if (c == '(') {
                last = {.begin = end};
                const size_t n_before = bnf_.rules.size();
                good = group(sequence, depth, last.n_times);
                last.n_rules = bnf_.rules.size() - n_before;
            } else if (c == '*' || c == '+' || c == '?' || c == '{') {
                good = repetition(sequence, last);
            } else if (c == '<' || c == '!') {
                return wrong("tokens of the vocabulary (<…>) are not supported: write their text in quotes");
            } else {
                return true;
            }
            if (!good) return false;
            n_times = std::max(n_times, last.n_times);
            skip_space(depth > 0);
        }
    }

    bool group(Sequence& sequence, uint32_t depth, uint64_t& n_times) {
        if (depth == kDeepest)
            return wrong(
                fmt::format("groups nested more than {} deep are not accepted: give the inner ones names", kDeepest));
        at++;
        skip_space(true);
        uint32_t id = 0;
        if (!add_rule(rule_name_, true, id) || !alternatives(id, depth + 1, n_times)) return false;
        if (peek() != ')') return wrong("a group is not closed with )");
        at++;
        sequence.push_back({.kind = Bnf::Symbol::Kind::rule, .value = id});
        return true;
    }

    bool literal(Sequence& sequence) {
        at++;
        while (peek() != '"') {
            uint32_t value = 0;
            if (!character(value, "a quoted text")) return false;
            if (value == 0) return wrong("a text cannot contain a zero byte");
            sequence.push_back({.kind = Bnf::Symbol::Kind::character, .value = value});
            if (!fits(sequence.size())) return false;
        }
        at++;
        return true;
    }

    bool set(Sequence& sequence) {
        at++;
        const bool negated = peek() == '^';
        if (negated) at++;
        std::vector<Bnf::Range> ranges;
        while (peek() != ']') {
            Bnf::Range range;
            if (!character(range.first, "a set of characters")) return false;
            range.last = range.first;
            if (peek() == '-' && peek(1) != ']') {
                at++;
                if (!character(range.last, "a set of characters")) return false;
            }
            if (range.last < range.first) return wrong("a range of characters must go from the smaller to the larger");
            ranges.push_back(range);
        }
        at++;
        if (ranges.empty()) return wrong("a set of characters is empty");
        if (negated) ranges = all_but(std::move(ranges));
        if (ranges.empty()) return wrong("a set of characters excludes every character");
        add_set(sequence, std::move(ranges));
        return true;
    }

    void add_set(Sequence& sequence, std::vector<Bnf::Range> ranges) {
        sequence.push_back({.kind = Bnf::Symbol::Kind::set, .value = static_cast<uint32_t>(bnf_.sets.size())});
        bnf_.sets.push_back(std::move(ranges));
    }

    bool repetition(Sequence& sequence, Last& last) {
        if (last.begin == sequence.size()) return wrong("there is nothing to repeat");
        uint32_t least = peek() == '+' ? 1 : 0;
        std::optional<uint32_t> most;
        if (peek() == '?') most = 1;
        if (peek() != '{') {
            at++;
        } else if (!times(least, most)) {
            return false;
        }
        const uint32_t n_times = std::max(most.value_or(least), 1U);
        last.n_times *= n_times;
        if (last.n_times > kMaxNestedTimes) {
            return wrong(
                fmt::format("nested repetitions multiply to more than {}: make them smaller", kMaxNestedTimes));
        }
        last.n_rules *= n_times;
        if (last.n_rules >= kMaxRulesRepeated)
            return wrong("a group of this size cannot be repeated so often: give its parts rules of their own");
        return write_out(sequence, last.begin, least, most);
    }

    /// Expands a repetition: S{2,4} becomes S S a, where a ::= S b | and b ::= S |, and S{2,} becomes S S a, where
    /// a ::= S a |.
    bool write_out(Sequence& sequence, size_t begin, uint32_t least, std::optional<uint32_t> most) {
        const Sequence what(sequence.begin() + static_cast<ptrdiff_t>(begin), sequence.end());
        if (!fits(what.size() * (most.value_or(least + 1) + 1))) return false;
        sequence.resize(begin);
        for (uint32_t i = 0; i < least; i++) sequence.insert(sequence.end(), what.begin(), what.end());

        constexpr auto kRule = Bnf::Symbol::Kind::rule;
        std::optional<uint32_t> next;
        for (uint32_t i = 0; i < (most ? *most - least : 1); i++) {
            uint32_t id = 0;
            if (!add_rule(rule_name_, true, id)) return false;
            Sequence once = what;
            if (!most) once.push_back({.kind = kRule, .value = id});
            if (next) once.push_back({.kind = kRule, .value = *next});
            if (!add_alternative(id, once) || !add_alternative(id, {})) return false;
            next = id;
        }
        if (next) sequence.push_back({.kind = kRule, .value = *next});
        return true;
    }

    size_t max_rules_;
    Bnf bnf_;
    std::string rule_name_;  // name of the current rule
    std::map<std::string, uint32_t, std::less<>> rules_by_name_;
};

}  // namespace

Result<Bnf> parse_gbnf(std::string_view text, size_t max_rules) {
    return Parser(text, max_rules).parse();
}

}  // namespace cake
