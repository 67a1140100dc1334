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

/// Input from which a task makes its samples.
struct TaskInput {
    std::vector<int64_t> lengths;  // tokens of prompt and answer
    std::vector<double> depths;    // needle positions, 0 to 1
    int32_t n_samples = 20;        // number of samples per length and depth, or per file
    int32_t n_skip = 0;            // number of samples to skip first
    uint64_t seed = 1;
    Wording wording = Wording::bundled;
    std::string filler = "generated";  // "repeated", "generated" or "text"
    std::string filler_text;           // text of the filler "text"
    std::vector<std::string> data;     // files, or folders of them
    bool keep_going = false;           // skip malformed lines
    TokenCounter counter;
    std::function<void(const std::string&)> warn;
    std::function<bool(size_t n_done)> progress;  // called before each text is made; return false to stop
};

/// Whether a task reads its samples from files. Without files, it generates its texts.
enum class Data { none, optional, required };

/// An entry in the table of tasks.
struct Task {
    std::string_view name;
    std::string_view summary;
    Result<std::vector<Sample>> (*make_samples)(const TaskInput& input);
    Data data;               // whether the task reads the user's files
    bool by_depth;           // true if it makes samples for each depth
    bool averages;           // true if an average over its subtasks is meaningful
    bool has_facts = false;  // true if some of its texts state several facts (Sample::facts)
};

/// All tasks except `fidelity`, which has no answers (fidelity.hpp).
std::span<const Task> tasks();
const Task* find_task(std::string_view name);

// Task::make_samples of each task.
Result<std::vector<Sample>> niah_samples(const TaskInput& input);
Result<std::vector<Sample>> needlebench_samples(const TaskInput& input);
Result<std::vector<Sample>> ledger_samples(const TaskInput& input);
Result<std::vector<Sample>> ruler_samples(const TaskInput& input);
Result<std::vector<Sample>> kv_retrieval_samples(const TaskInput& input);
Result<std::vector<Sample>> longeval_samples(const TaskInput& input);
Result<std::vector<Sample>> longbench_samples(const TaskInput& input);
Result<std::vector<Sample>> longbench_v2_samples(const TaskInput& input);

}  // namespace cake::eval
