#include "text/gbnf_readings.hpp"

#include <algorithm>
#include <random>
#include <unordered_map>
#include <utility>
#include <vector>

namespace cake {

namespace {

using SymbolKind = Bnf::Symbol::Kind;

// libllama follows every way to parse a token separately, even if several lead to the same state. The longest tokens of
// vocabularies repeat one character.
constexpr uint64_t kMaxWaysOfAllTexts = 10'000;
constexpr uint32_t kTokenLength = 16;
constexpr uint32_t kRunLength = 64;
// Max steps for one character, per parse that is allowed and in total.
constexpr uint64_t kMaxStepsEach = 8;
constexpr uint64_t kMaxSteps = 30'000;

/// How to choose the next character of a text: the one that leaves the most ways, the most parses, or the deepest
/// stack.
enum class Taste : uint8_t { ways, readings, depth };

/// Generates texts of a grammar and follows their parses ("readings") as libllama does: each is a stack of the places
/// where rules continue.
class Trial {
  public:
    explicit Trial(const Bnf& bnf, size_t most) : bnf_(bnf), most_(most) {}

    /// Generates texts of the rule in at most `work` steps. Returns true if the parses of one of them exceed a limit.
    bool fails(uint32_t rule, Taste taste, uint64_t work) {
        constexpr int kTexts = 8;
        work_ = work;
        for (int i = 0; i < kTexts && work_ > 0 && !too_much_; i++) write(rule, taste);
        return too_much_;
    }

  private:
    struct Stack {
        uint32_t place = 0;  // index in the grammar's symbols
        uint32_t below = 0;
        uint32_t depth = 0;
    };
    struct Readings {
        std::vector<uint32_t> stacks;
        std::vector<uint64_t> ways;  // number of ways to each stack since the token began
        uint64_t all_ways = 0;
        uint32_t depth = 0;  // depth of the deepest stack
    };
    /// Index of a stack in the readings of a round.
    struct Index {
        uint32_t round = 0;
        uint32_t index = 0;
    };
    static constexpr uint32_t kEmpty = 0;

    void write(uint32_t rule, Taste taste) {
        round_++;
        Readings readings;
        for (const uint32_t begin : bnf_.rules[rule].alternatives) add(push(begin, kEmpty), 1, readings);
        check(readings);
        uint32_t length = 0;  // characters since the token began
        uint32_t last = 0;
        while (work_ > 0 && !too_much_ && !readings.stacks.empty()) {
            auto [character, next] = after_the_best_character(readings, taste);
            if (next.stacks == readings.stacks && next.ways == readings.ways) return;  // the state repeats
            readings = std::move(next);
            length++;
            if (length >= (character == last ? kRunLength : kTokenLength)) {
                std::ranges::fill(readings.ways, 1);
                length = 0;
            }
            last = character;
        }
    }

    void check(const Readings& readings) {
        too_much_ = too_much_ || readings.stacks.size() > most_ || readings.all_ways > kMaxWaysOfAllTexts;
    }

    /// A place at the end of a rule is not pushed, so that recursion at the end of a rule does not make the stack grow.
    uint32_t push(uint32_t place, uint32_t below) {
        if (bnf_.symbols[place].kind == SymbolKind::end) return below;
        const uint64_t key = (uint64_t{place} << 32U) | below;
        const auto [found, is_new] = ids_.try_emplace(key, static_cast<uint32_t>(stacks_.size()));
        if (is_new) {
            stacks_.push_back({.place = place, .below = below, .depth = stacks_[below].depth + 1});
            seen_.push_back(0);
            index_.emplace_back();
        }
        return found->second;
    }

    /// Expands `stack` and adds the resulting stacks, each with a character or a set on top.
    void add(uint32_t stack, uint64_t ways, Readings& readings) {
        add_round_++;
        std::vector<uint32_t> open = {stack};
        while (!open.empty() && work_ > 0) {
            const uint32_t id = open.back();
            open.pop_back();
            if (std::exchange(seen_[id], add_round_) == add_round_) continue;
            work_--;
            if (id == kEmpty) continue;
            const auto [place, below, depth] = stacks_[id];
            const auto symbol = bnf_.symbols[place];
            if (symbol.kind != SymbolKind::rule) {
                if (index_[id].round != round_) {
                    index_[id] = {.round = round_, .index = static_cast<uint32_t>(readings.stacks.size())};
                    readings.stacks.push_back(id);
                    readings.ways.push_back(0);
                }
                readings.ways[index_[id].index] += ways;
                readings.all_ways += ways;
                readings.depth = std::max(readings.depth, depth);
                continue;
            }
            const uint32_t rest = push(place + 1, below);
            for (const uint32_t begin : bnf_.rules[symbol.value].alternatives) open.push_back(push(begin, rest));
        }
    }

    bool is_read_by(uint32_t stack, uint32_t character) const {
        const auto symbol = bnf_.symbols[stacks_[stack].place];
        if (symbol.kind == SymbolKind::character) return symbol.value == character;
        return std::ranges::any_of(bnf_.sets[symbol.value], [=](const Bnf::Range& range) {
            return range.first <= character && character <= range.last;
        });
    }

    Readings after(const Readings& readings, uint32_t character) {
        Readings result;
        round_++;
        const uint64_t before = work_;
        work_ -= std::min<uint64_t>(work_, readings.stacks.size() / 8);
        for (size_t i = 0; i < readings.stacks.size(); i++) {
            const uint32_t stack = readings.stacks[i];
            if (!is_read_by(stack, character)) continue;
            add(push(stacks_[stack].place + 1, stacks_[stack].below), readings.ways[i], result);
        }
        check(result);
        too_much_ = too_much_ || before - work_ > std::min<uint64_t>(kMaxStepsEach * most_, kMaxSteps);
        return result;
    }

    /// Some of the characters that can come next.
    std::vector<uint32_t> characters(const Readings& readings) {
        constexpr size_t kMax = 12;
        std::vector<uint32_t> all;
        for (const uint32_t stack : readings.stacks) {
            const auto symbol = bnf_.symbols[stacks_[stack].place];
            if (symbol.kind == SymbolKind::character) {
                all.push_back(symbol.value);
                continue;
            }
            const auto& set = bnf_.sets[symbol.value];
            all.push_back(set.front().first);
            all.push_back(set.back().last);
        }
        std::ranges::sort(all);
        all.erase(std::unique(all.begin(), all.end()), all.end());
        std::ranges::shuffle(all, random_);
        if (all.size() > kMax) all.resize(kMax);
        return all;
    }

    std::pair<uint32_t, Readings> after_the_best_character(const Readings& readings, Taste taste) {
        const auto worth = [=](const Readings& of) -> uint64_t {
            if (of.stacks.empty()) return 0;
            if (taste == Taste::depth) return of.depth;
            return taste == Taste::ways ? of.all_ways : of.stacks.size();
        };
        std::pair<uint32_t, Readings> best;
        for (const uint32_t character : characters(readings)) {  // in random order, so that ties are broken at random
            auto next = after(readings, character);
            if (worth(next) > worth(best.second)) best = {character, std::move(next)};
        }
        return best;
    }

    const Bnf& bnf_;
    size_t most_;
    uint64_t work_ = 0;  // remaining steps
    bool too_much_ = false;
    std::vector<Stack> stacks_ = {{}};
    std::unordered_map<uint64_t, uint32_t> ids_;
    std::vector<uint32_t> seen_ = {0};  // for each stack, the last call of add() that visited it
    uint32_t add_round_ = 0;
    std::vector<Index> index_ = {{}};
    uint32_t round_ = 0;
    std::minstd_rand random_;  // default seed, so that the texts are the same in every run
};

}  // namespace

std::optional<uint32_t> rule_of_many_readings(const Bnf& bnf, size_t most) {
    constexpr uint64_t kWorkFromRoot = 100'000;
    constexpr uint64_t kWorkFromRules = 100'000;
    constexpr size_t kMaxRules = 1000;
    std::vector<uint32_t> rules;
    for (uint32_t rule = 0; rule < bnf.rules.size(); rule++) {
        if (!bnf.rules[rule].is_part) rules.push_back(rule);
    }
    std::ranges::shuffle(rules, std::minstd_rand());
    if (rules.size() > kMaxRules) rules.resize(kMaxRules);
    for (const auto taste : {Taste::ways, Taste::readings, Taste::depth}) {
        if (Trial(bnf, most).fails(bnf.root, taste, kWorkFromRoot)) return bnf.root;
        for (const uint32_t rule : rules) {
            if (Trial(bnf, most).fails(rule, taste, kWorkFromRules / rules.size())) return rule;
        }
    }
    return std::nullopt;
}

}  // namespace cake
