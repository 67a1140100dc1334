#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "cake/error.hpp"
#include "eval/task.hpp"

namespace cake::eval {

/// Reads the files of the input, one JSON object a line, and makes a sample of each with `make`, at most
/// `input.n_samples` of each file. A line that is no such object is an error that names file and line; with
/// `input.keep_going` it is reported and passed over.
Result<std::vector<Sample>> read_samples(
    const TaskInput& input, const std::function<Result<Sample>(const nlohmann::json&, const std::string& file)>& make);

/// Fields of an object; what is missing or of another type is an error that names the field.
Result<std::string> string_field(const nlohmann::json& object, const char* name);
Result<std::vector<std::string>> strings_field(const nlohmann::json& object, const char* name);

}  // namespace cake::eval
