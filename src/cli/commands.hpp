#pragma once

#include <CLI/CLI.hpp>
#include <functional>

namespace cake::cli {

/// Each of these functions adds one command to the program. The callback of the selected command sets `action` to a
/// function that executes it and returns the exit code.
void add_ask(CLI::App& app, std::function<int()>& action);
void add_read(CLI::App& app, std::function<int()>& action);
void add_run(CLI::App& app, std::function<int()>& action);
void add_chat(CLI::App& app, std::function<int()>& action);
void add_serve(CLI::App& app, std::function<int()>& action);
void add_bench(CLI::App& app, std::function<int()>& action);
void add_eval(CLI::App& app, std::function<int()>& action);
void add_inspect(CLI::App& app, std::function<int()>& action);
void add_info(CLI::App& app, std::function<int()>& action);

}  // namespace cake::cli
