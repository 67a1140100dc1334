#pragma once

#include <cstdint>
#include <regex>
#include <string>
#include <vector>

#include "eval/sample.hpp"

namespace cake::eval {

/// All facts in a prompt that match `pattern`, whose two groups are key and value.
std::vector<Fact> facts_in(const std::string& prompt, const std::regex& pattern);

/// Stores the facts that a sample could be asked for. Does nothing unless its first answer is the value of one of them.
void state_facts(Sample& sample, std::vector<Fact> facts);

/// Adds questions to each sample whose text states several facts, for a total of at most `n_questions` per text. They
/// ask for facts that are drawn at random (`seed`). Questions about the same text are adjacent. A sample without facts
/// is not changed.
std::vector<Sample> with_more_questions(std::vector<Sample> samples, int32_t n_questions, uint64_t seed);

}  // namespace cake::eval
