#include "text/gbnf_check.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "text/gbnf_readings.hpp"
#include "text/utf8.hpp"

namespace cake {

namespace {

using SymbolKind = Bnf::Symbol::Kind;

// Max ways to continue a text. libllama follows each of them for every token of the vocabulary.
constexpr uint32_t kMaxWays = 4096;
constexpr uint32_t kWaysOfCharacter = 2;

std::string shown(const Bnf& bnf, uint32_t rule) {
    return fmt::format("the grammar's rule \"{}\"", beginning_of(bnf.rules[rule].name));
}

/// Returns, for each rule, whether it is in the least set of rules that have an alternative whose rules are all in the
/// set and which has no characters unless `with_characters`. With characters, these are the rules that can end;
/// without, the rules that may be empty.
std::vector<bool> least_set(const Bnf& bnf, bool with_characters) {
    struct Alternative {
        uint32_t rule = 0;
        uint32_t n_open = 0;  // number of its rules that are not known to be in the set yet
    };
    std::vector<Alternative> alternatives;
    std::vector<std::vector<uint32_t>> users(bnf.rules.size());  // alternatives in which a rule occurs
    std::vector<bool> is_in(bnf.rules.size());
    std::vector<uint32_t> found;
    const auto add = [&](uint32_t rule) {
        if (is_in[rule]) return;
        is_in[rule] = true;
        found.push_back(rule);
    };
    for (uint32_t rule = 0; rule < bnf.rules.size(); rule++) {
        for (const uint32_t begin : bnf.rules[rule].alternatives) {
            bool possible = true;
            Alternative alternative{.rule = rule, .n_open = 0};
            for (uint32_t i = begin; bnf.symbols[i].kind != SymbolKind::end; i++) {
                if (bnf.symbols[i].kind != SymbolKind::rule) {
                    possible = possible && with_characters;
                    continue;
                }
                users[bnf.symbols[i].value].push_back(static_cast<uint32_t>(alternatives.size()));
                alternative.n_open++;
            }
            if (possible && alternative.n_open == 0) add(rule);
            if (!possible) alternative.n_open += static_cast<uint32_t>(bnf.symbols.size());  // never reaches 0
            alternatives.push_back(alternative);
        }
    }
    while (!found.empty()) {
        const uint32_t rule = found.back();
        found.pop_back();
        for (const uint32_t user : users[rule]) {
            if (--alternatives[user].n_open == 0) add(alternatives[user].rule);
        }
    }
    return is_in;
}

/// The rules and characters that a text of a rule can begin with.
struct Beginnings {
    std::vector<uint32_t> rules;
    uint32_t n_characters = 0;
};

std::vector<Beginnings> beginnings_of(const Bnf& bnf, const std::vector<bool>& may_be_empty) {
    const auto has_empty_alternative = [&](uint32_t rule) {
        return std::ranges::any_of(bnf.rules[rule].alternatives,
                                   [&](uint32_t begin) { return bnf.symbols[begin].kind == SymbolKind::end; });
    };
    std::vector<Beginnings> result(bnf.rules.size());
    for (uint32_t rule = 0; rule < bnf.rules.size(); rule++) {
        for (const uint32_t begin : bnf.rules[rule].alternatives) {
            bool is_seen = true;  // true if libllama detects that everything up to here may be empty
            for (uint32_t i = begin; bnf.symbols[i].kind != SymbolKind::end; i++) {
                if (bnf.symbols[i].kind != SymbolKind::rule) {
                    result[rule].n_characters++;
                    break;
                }
                const uint32_t first = bnf.symbols[i].value;
                // a ::= b a |, the expansion of ("x"*)*, only repeats the same parse. libllama detects this or refuses
                // it.
                const bool same_again = first == rule && bnf.symbols[i + 1].kind == SymbolKind::end && !is_seen;
                is_seen = is_seen && has_empty_alternative(first);
                if (!same_again) result[rule].rules.push_back(first);
                if (!may_be_empty[first]) break;
            }
        }
    }
    return result;
}

uint32_t sum(uint32_t a, uint32_t b) {
    return std::min(a + b, kMaxWays + 1);
}

/// Cost of finding everything that a text of each rule can begin with: the rules on the way, plus two for each
/// character; at most kMaxWays + 1. For a rule that begins with itself, it is infinite.
class Ways {
  public:
    explicit Ways(const std::vector<Beginnings>& beginnings) : beginnings_(beginnings), ways_(beginnings.size(), 1) {
        std::vector<std::vector<uint32_t>> users(beginnings.size());
        std::vector<size_t> n_open(beginnings.size());
        std::vector<uint32_t> ready;
        for (uint32_t rule = 0; rule < beginnings.size(); rule++) {
            for (const uint32_t first : beginnings[rule].rules) users[first].push_back(rule);
            n_open[rule] = beginnings[rule].rules.size();
            if (n_open[rule] == 0) ready.push_back(rule);
        }
        std::vector<bool> done(beginnings.size());
        while (!ready.empty()) {
            const uint32_t rule = ready.back();
            ready.pop_back();
            done[rule] = true;
            ways_[rule] = sum(1, kWaysOfCharacter * std::min(beginnings[rule].n_characters, kMaxWays));
            for (const uint32_t first : beginnings[rule].rules) ways_[rule] = sum(ways_[rule], ways_[first]);
            for (const uint32_t user : users[rule]) {
                if (--n_open[user] == 0) ready.push_back(user);
            }
        }
        const auto left = std::ranges::find(done, false);
        if (left != done.end()) find_circle(static_cast<uint32_t>(left - done.begin()), done);
    }

    std::optional<uint32_t> in_circle() const { return in_circle_; }
    uint32_t operator[](uint32_t rule) const { return ways_[rule]; }

  private:
    /// Each rule that is not done begins with another such rule, so following them leads to a cycle.
    void find_circle(uint32_t rule, const std::vector<bool>& done) {
        std::vector<bool> seen(done.size());
        while (!seen[rule]) {
            seen[rule] = true;
            rule = *std::ranges::find_if(beginnings_[rule].rules, [&](uint32_t first) { return !done[first]; });
        }
        in_circle_ = rule;
    }

    const std::vector<Beginnings>& beginnings_;
    std::vector<uint32_t> ways_;
    std::optional<uint32_t> in_circle_;
};

/// The largest number of ways to continue from any place within a rule.
Result<uint32_t> most_ways(const Bnf& bnf, const Ways& ways, const std::vector<bool>& may_be_empty) {
    uint32_t most = 0;
    for (uint32_t rule = 0; rule < bnf.rules.size(); rule++) {
        most = std::max(most, ways[rule]);
        for (const uint32_t begin : bnf.rules[rule].alternatives) {
            uint32_t end = begin;
            while (bnf.symbols[end].kind != SymbolKind::end) end++;
            uint32_t behind = 0;
            for (uint32_t i = end; i-- > begin;) {
                const auto symbol = bnf.symbols[i];
                const bool is_rule = symbol.kind == SymbolKind::rule;
                const bool skipped = is_rule && may_be_empty[symbol.value];
                behind = sum(is_rule ? ways[symbol.value] : kWaysOfCharacter, skipped ? behind : 0);
                most = std::max(most, behind);
            }
        }
        if (most > kMaxWays) {
            return fail(fmt::format("{} can continue in too many ways at one place: give it fewer alternatives",
                                    shown(bnf, rule)));
        }
    }
    return most;
}

}  // namespace

Result<void> check_rules(const Bnf& bnf) {
    const auto ends = least_set(bnf, true);
    if (const auto found = std::ranges::find(ends, false); found != ends.end()) {
        return fail(fmt::format("{} can never end: give it an alternative that does not contain it",
                                shown(bnf, static_cast<uint32_t>(found - ends.begin()))));
    }
    const auto may_be_empty = least_set(bnf, false);
    const auto beginnings = beginnings_of(bnf, may_be_empty);
    const Ways ways(beginnings);
    if (const auto rule = ways.in_circle()) {
        return fail(fmt::format("{} begins with itself (left recursion): put something before it that is never empty",
                                shown(bnf, *rule)));
    }
    const auto most = most_ways(bnf, ways, may_be_empty);
    if (!most) return std::unexpected(most.error());

    // In a reasonable grammar, the next characters decide between the alternatives, so the number of parses of a text
    // stays small. In others, it keeps growing.
    const size_t most_readings = 128 + 4 * size_t{*most};
    if (const auto rule = rule_of_many_readings(bnf, most_readings)) {
        return fail(fmt::format("{} allows too many ways to read one text: make its alternatives begin differently",
                                shown(bnf, *rule)));
    }
    return {};
}

}  // namespace cake
