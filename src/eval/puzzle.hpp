#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "eval/filler.hpp"
#include "eval/sample.hpp"

namespace cake::eval {

/// Wording of facts and questions: that of the bundled model's training, or that of the published benchmarks (RULER,
/// arXiv 2404.06654), for models that follow instructions.
enum class Wording { bundled, published };

/// Facts to hide in a text, and a question about them.
struct Puzzle {
    std::string before;                // instructions before the text
    std::vector<std::string> needles;  // sentences to hide; those asked for keep their order
    size_t n_asked = 1;                // number of needles asked for; they come first, and the rest are distractors
    std::string question;
    std::string answer_begin;          // beginning of the answer, part of the prompt
    std::vector<std::string> answers;  // expected answers, all of which must be found
    int32_t max_tokens = 16;           // max tokens of the answer
    std::vector<Fact> facts{};         // facts that the same question could ask for, distractors included
    bool chat = false;                 // put text and question into the model's chat template
};

/// Makes a random puzzle for a text of `n_tokens` tokens.
using MakePuzzle = Puzzle (*)(Wording wording, Random& random, int64_t n_tokens);

Puzzle single(Wording wording, Random& random, int64_t n_tokens);      // one fact
Puzzle multikey(Wording wording, Random& random, int64_t n_tokens);    // one fact among others, one for each 128 tokens
Puzzle multivalue(Wording wording, Random& random, int64_t n_tokens);  // four values of one key
Puzzle tracking(Wording wording, Random& random, int64_t n_tokens);    // a value passed along a chain of names
Puzzle frequent(Wording wording, Random& random, int64_t n_tokens);    // the most frequent word of a list
Puzzle ledger(Wording wording, Random& random, int64_t n_tokens);      // the last of several values of one key
Puzzle reasoning(Wording wording, Random& random, int64_t n_tokens);   // two facts that must be combined

}  // namespace cake::eval
