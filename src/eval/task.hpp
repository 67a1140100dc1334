#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cake/error.hpp"
#include "eval/haystack.hpp"
#include "eval/sample.hpp"

namespace cake::eval {

/// What a task's samples are made from.
struct TaskInput {
    std::vector<int64_t> lengths;  // tokens of a prompt
    std::vector<double> depths;    // 0 to 1
    int32_t n_samples = 20;        // for each length and depth, or of each file
    int32_t n_skip = 0;            // samples passed over before these
    uint64_t seed = 1;
    Wording wording = Wording::bundled;
    std::string filler = "generated";  // "repeated", "generated" or "text"
    std::string filler_text;           // for "text"
    std::vector<std::string> data;     // files, or folders of them
    bool keep_going = false;           // pass over malformed lines
    TokenCounter counter;
    std::function<void(const std::string&)> warn;
    std::function<bool(size_t n_done)> progress;  // told while texts are made; false stops
};

/// Files of samples: a task that takes none makes its texts.
enum class Data { none, optional, required };

/// A row of the table of tasks.
struct Task {
    std::string_view name;
    std::string_view summary;
    Result<std::vector<Sample>> (*make_samples)(const TaskInput& input);
    Data data;               // whether it reads files that the user has
    bool by_depth;           // its samples are made for each of the depths
    bool averages;           // an average over its subtasks means something
    bool has_facts = false;  // some of its texts state several facts of one form: Sample::facts
};

/// `fidelity` is none of them: it has no answers (fidelity.hpp).
std::span<const Task> tasks();
const Task* find_task(std::string_view name);

// One file each.
Result<std::vector<Sample>> niah_samples(const TaskInput& input);
Result<std::vector<Sample>> needlebench_samples(const TaskInput& input);
Result<std::vector<Sample>> ruler_samples(const TaskInput& input);
Result<std::vector<Sample>> kv_retrieval_samples(const TaskInput& input);
Result<std::vector<Sample>> longeval_samples(const TaskInput& input);
Result<std::vector<Sample>> longbench_samples(const TaskInput& input);
Result<std::vector<Sample>> longbench_v2_samples(const TaskInput& input);

}  // namespace cake::eval
