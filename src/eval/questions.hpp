#pragma once

#include <cstdint>
#include <regex>
#include <string>
#include <vector>

#include "eval/sample.hpp"

namespace cake::eval {

/// Every "KEY … VALUE" of a prompt that `pattern` matches with two groups.
std::vector<Fact> facts_in(const std::string& prompt, const std::regex& pattern);

/// Notes what else a sample could be asked for: all facts, if the sample's first answer is the value of one of them.
void state_facts(Sample& sample, std::vector<Fact> facts);

/// Asks each text that states several facts for `n_questions` of them: its own question and others, drawn by the seed.
/// Questions of a text follow one another. Samples without further facts stay as they are.
std::vector<Sample> with_more_questions(std::vector<Sample> samples, int32_t n_questions, uint64_t seed);

}  // namespace cake::eval
