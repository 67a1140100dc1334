// Tasks that read one kind of file each: kv-retrieval (lost-in-the-middle, arXiv 2307.03172) and longeval (LongChat).

#include <fmt/format.h>

#include <filesystem>
#include <regex>

#include "eval/jsonl.hpp"
#include "eval/metrics.hpp"
#include "eval/questions.hpp"
#include "eval/task.hpp"

namespace cake::eval {

namespace {

struct JsonData {
    std::string text;
    std::vector<Fact> facts;
};

Result<JsonData> json_data(const nlohmann::json& object) {
    const auto records = object.find("ordered_kv_records");
    if (records == object.end() || !records->is_array()) return fail("the field \"ordered_kv_records\" is not a list");
    JsonData data;
    for (const auto& record : *records) {
        if (!record.is_array() || record.size() != 2 || !record[0].is_string() || !record[1].is_string())
            return fail("a record of \"ordered_kv_records\" is not a pair of strings");
        data.text += (data.text.empty() ? "{" : ",\n ") + record[0].dump() + ": " + record[1].dump();
        data.facts.push_back({.key = record[0].get<std::string>(), .value = record[1].get<std::string>()});
    }
    data.text += '}';
    return data;
}

Result<Sample> kv_sample(const nlohmann::json& object) {
    auto data = json_data(object);
    if (!data) return std::unexpected(data.error());
    const auto key = string_field(object, "key");
    if (!key) return std::unexpected(key.error());
    auto value = string_field(object, "value");
    if (!value) return std::unexpected(value.error());
    auto text = fmt::format(
        "Extract the value corresponding to the specified key in the JSON object below.\n\nJSON data:\n{}\n\n",
        data->text);
    return Sample{.prompt = fmt::format("{}Key: \"{}\"\nCorresponding value:", text, *key),
                  .question_begin = text.size(),
                  .answers = {std::move(*value)},
                  .metric = contains_all,
                  .max_tokens = 100,
                  .ends_when_right = true,
                  .facts = std::move(data->facts),
                  .asked = *key};
}

Result<Sample> lines_sample(const nlohmann::json& object) {
    auto prompt = string_field(object, "prompt");
    if (!prompt) return std::unexpected(prompt.error());
    auto number = string_field(object, "expected_number");
    if (!number) return std::unexpected(number.error());
    Sample sample{.prompt = std::move(*prompt),
                  .chat = true,
                  .answers = {std::move(*number)},
                  .metric = last_number,
                  .max_tokens = 50};
    static const std::regex line(R"(line ([^\s:]+): REGISTER_CONTENT is <(\d+)>)");
    state_facts(sample, facts_in(sample.prompt, line));
    return sample;
}

/// Gives each file a row of its own, because files differ in how much text must be searched.
Result<Sample> in_row_of(const std::string& file, Result<Sample> sample) {
    if (sample) sample->subtasks = {std::filesystem::path(file).stem().string()};
    return sample;
}

}  // namespace

Result<std::vector<Sample>> kv_retrieval_samples(const TaskInput& input) {
    return read_samples(input, [](const auto& object, const auto& file) { return in_row_of(file, kv_sample(object)); });
}

Result<std::vector<Sample>> longeval_samples(const TaskInput& input) {
    return read_samples(input,
                        [](const auto& object, const auto& file) { return in_row_of(file, lines_sample(object)); });
}

}  // namespace cake::eval
