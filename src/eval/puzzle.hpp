#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "eval/filler.hpp"
#include "eval/sample.hpp"

namespace cake::eval {

/// How facts and questions are put: in the words of the bundled model's training, or in those of the published
/// benchmarks (RULER, arXiv 2404.06654), for models that follow instructions.
enum class Wording { bundled, published };

/// Facts to hide in a text, and what is asked of them.
struct Puzzle {
    std::string before;                // what stands before the text
    std::vector<std::string> needles;  // in the order in which they have to stand
    size_t n_asked = 1;                // the first so many are asked for; the others, of the same form, distract
    std::string question;
    std::string answer_begin;          // what the answer is led into with
    std::vector<std::string> answers;  // all of them
    int32_t max_tokens = 16;           // of the answer
    std::vector<Fact> facts{};         // of the question's form, those that distract included
    bool chat = false;                 // a model's chat template goes around text and question
};

/// Each kind makes a puzzle for a text of `n_tokens`.
using MakePuzzle = Puzzle (*)(Wording wording, Random& random, int64_t n_tokens);

Puzzle single(Wording wording, Random& random, int64_t n_tokens);      // one fact
Puzzle multikey(Wording wording, Random& random, int64_t n_tokens);    // one among others, one for each 128 tokens
Puzzle multivalue(Wording wording, Random& random, int64_t n_tokens);  // four values of one key
Puzzle tracking(Wording wording, Random& random, int64_t n_tokens);    // a value that goes from name to name, twice
Puzzle frequent(Wording wording, Random& random, int64_t n_tokens);    // the word that a list holds most often
Puzzle reasoning(Wording wording, Random& random, int64_t n_tokens);   // two facts that have to be put together

}  // namespace cake::eval
