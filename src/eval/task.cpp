#include "eval/task.hpp"

#include <algorithm>

namespace cake::eval {

namespace {

constexpr Task kTasks[] = {
    {"niah", "one fact hidden in a text, by length and depth", niah_samples, Data::none, true, false},
    {"needlebench", "single retrieval, multi retrieval, and reasoning over two facts", needlebench_samples, Data::none,
     false, true},
    {"ruler", "single, multikey, multivalue, tracking, frequent; or RULER's own files (--data)", ruler_samples,
     Data::optional, false, true, true},
    {"ledger", "the last of four values of each key, which change throughout the text", ledger_samples, Data::none,
     false, false, true},
    {"kv-retrieval", "a value from a large JSON object; or files of lost-in-the-middle (--data)", kv_retrieval_samples,
     Data::required, false, false, true},
    {"longeval", "a number from a long list of lines; LongEval's files", longeval_samples, Data::required, false, false,
     true},
    {"longbench", "LongBench v1: a file for each of its datasets", longbench_samples, Data::required, false, true},
    {"longbench-v2", "LongBench v2: multiple choice", longbench_v2_samples, Data::required, false, false},
};

}  // namespace

std::span<const Task> tasks() {
    return kTasks;
}

const Task* find_task(std::string_view name) {
    const auto* found = std::ranges::find(kTasks, name, &Task::name);
    return found == std::end(kTasks) ? nullptr : found;
}

}  // namespace cake::eval
