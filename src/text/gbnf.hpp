#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "cake/error.hpp"

namespace cake {

/// A grammar as plain rules. Groups and repetitions stand in rules of their own, the same ones that libllama makes of
/// them, so that what is counted here is what it will hold.
struct Bnf {
    struct Symbol {
        enum class Kind : uint8_t { end, rule, character, set };
        Kind kind = Kind::end;
        uint32_t value = 0;  // a rule, a code point or a set
    };
    struct Rule {
        std::string name;  // its own, or that of the rule that it is part of
        bool is_part = false;
        std::vector<uint32_t> alternatives;  // where each begins in `symbols`; it goes on to an end
    };
    struct Range {
        uint32_t first = 0;
        uint32_t last = 0;
    };

    std::vector<Symbol> symbols;
    std::vector<Rule> rules;
    std::vector<std::vector<Range>> sets;  // without negation
    uint32_t root = 0;
};

/// Reads a text of valid UTF-8 without zero bytes. What libllama would read wrongly or without end is an error, and so
/// is a grammar that would grow too large: more than `most_rules` rules, groups more than 32 deep, a repetition of more
/// than 256 or, with those around it, of more than 4,096.
Result<Bnf> parse_gbnf(std::string_view text, size_t most_rules);

}  // namespace cake
