#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace cake::eval {

struct Sample;

/// How good a prediction is, 0 to 1.
using Metric = double (*)(std::string_view prediction, const Sample& sample);

/// A key of a text and its value, of which a question asks one for the other.
struct Fact {
    std::string key;
    std::string value;
};

/// One prompt, and what counts as its answer.
struct Sample {
    std::vector<std::string> subtasks;  // rows that it counts in: "multikey", "multi_news", …; none: there is one only
    std::string prompt;
    std::string answer_begin;          // what the answer is led into with, behind the prompt and a chat template's end
    bool chat = false;                 // put into the model's chat template, where it has one
    std::vector<std::string> answers;  // what they mean (any of them, all of them) is the metric's
    std::vector<std::string> classes;  // of a classification
    Metric metric = nullptr;
    int32_t max_tokens = 32;       // of the answer
    bool first_line_only = false;  // what follows the answer's first line does not count
    bool ends_when_right = false;  // nothing that follows can take a full score back
    int64_t length_tokens = 0;     // what the prompt was made to fill; 0: as it came
    std::vector<Fact> facts{};     // all that the prompt could be asked for, if there are several of one form
    std::string asked{};           // the key of the one that it is asked for
    size_t text = 0;               // number of the text, which several questions may share
    double depth = -1;             // where the needle is, 0 to 1; -1: nowhere in particular
};

}  // namespace cake::eval
