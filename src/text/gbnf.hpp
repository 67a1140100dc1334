#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "cake/error.hpp"

namespace cake {

/// A grammar as plain rules. Groups and repetitions become rules of their own, the same ones that libllama makes, so
/// that the size counted here is the size that libllama will use.
struct Bnf {
    struct Symbol {
        enum class Kind : uint8_t { end, rule, character, set };
        Kind kind = Kind::end;
        uint32_t value = 0;  // index of a rule, code point, or index of a set
    };
    struct Rule {
        std::string name;  // its own name, or that of the rule that it is part of
        bool is_part = false;
        std::vector<uint32_t> alternatives;  // index in `symbols` of each alternative, which continues up to `end`
    };
    struct Range {
        uint32_t first = 0;
        uint32_t last = 0;
    };

    std::vector<Symbol> symbols;
    std::vector<Rule> rules;
    std::vector<std::vector<Range>> sets;  // sets without negation
    uint32_t root = 0;
};

/// Parses a grammar in valid UTF-8 without zero bytes. Fails if libllama would misread it or hang on it, and if it is
/// too large: more than `max_rules` rules, groups nested more than 32 deep, a repetition of more than 256, or nested
/// repetitions of more than 4,096 together.
Result<Bnf> parse_gbnf(std::string_view text, size_t max_rules);

}  // namespace cake
