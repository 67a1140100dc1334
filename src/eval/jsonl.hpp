#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "cake/error.hpp"
#include "eval/task.hpp"

namespace cake::eval {

/// Reads the input files, which have one JSON object per line, and converts each object with `make`: at most
/// `input.n_samples` per file, after skipping the first `input.n_skip`. If a line cannot be converted,
/// the error names the file and the line. With `input.keep_going`, the error goes to `input.warn` and the line is
/// skipped.
Result<std::vector<Sample>> read_samples(
    const TaskInput& input, const std::function<Result<Sample>(const nlohmann::json&, const std::string& file)>& make);

/// Return a field of an object. If it is missing or has another type, the error names the field.
Result<std::string> string_field(const nlohmann::json& object, const char* name);
Result<std::vector<std::string>> strings_field(const nlohmann::json& object, const char* name);

}  // namespace cake::eval
