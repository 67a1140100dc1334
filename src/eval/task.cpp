#include "eval/task.hpp"

#include <algorithm>

namespace cake::eval {

namespace {

constexpr Task kTasks[] = {
    {"niah", "one fact hidden in a text, by length and depth", true, Data::none, false, niah_samples},
    {"needlebench", "single retrieval, multi retrieval, and reasoning over two facts", false, Data::none, true,
     needlebench_samples},
    {"ruler", "single, multikey, multivalue, tracking, frequent; or RULER's own files (--data)", false, Data::optional,
     true, ruler_samples},
    {"kv-retrieval", "a value of a large JSON object; files of lost-in-the-middle", false, Data::required, false,
     kv_retrieval_samples},
    {"longeval", "a number of a long list of lines; LongEval's files", false, Data::required, false, longeval_samples},
    {"longbench", "LongBench v1: a file for each of its datasets", false, Data::required, true, longbench_samples},
    {"longbench-v2", "LongBench v2: multiple choice", false, Data::required, false, longbench_v2_samples},
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
