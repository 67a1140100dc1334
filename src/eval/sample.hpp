#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace cake::eval {

struct Sample;

/// Returns the score of a prediction, 0 to 1.
using Metric = double (*)(std::string_view prediction, const Sample& sample);

/// A key and its value in a text. A question names the key and asks for the value.
struct Fact {
    std::string key;
    std::string value;
};

/// One prompt with its expected answers.
struct Sample {
    std::vector<std::string> subtasks;  // rows that the sample counts toward, such as "multikey"; empty: one row
    std::string prompt;
    size_t question_begin = 0;         // byte of the prompt at which the question begins; 0: not known
    std::string answer_begin;          // beginning of the answer, appended to the prompt after the chat template
    bool chat = false;                 // put the prompt into the model's chat template, if it has one
    std::vector<std::string> answers;  // the metric decides whether one or all of them are expected
    std::vector<std::string> classes;  // all classes of a classification task
    Metric metric = nullptr;
    int32_t max_tokens = 32;       // max tokens of the answer
    bool first_line_only = false;  // ignore everything after the first line of the answer
    bool ends_when_right = false;  // stop when the score is 1: further text cannot lower it
    int64_t length_tokens = 0;     // target length of prompt and answer; 0: read from a file
    std::vector<Fact> facts{};     // facts that the prompt could ask for
    std::string asked{};           // key of the fact that the prompt asks for
    size_t text = 0;               // index of the text, which several questions may share
    double depth = -1;             // position of the needle, 0 to 1; -1: not set
};

}  // namespace cake::eval
