#include <CLI/CLI.hpp>
#include <exception>
#include <format>
#include <functional>
#include <string>
#include <vector>

#include "cli/commands.hpp"
#include "cli/output.hpp"
#include "cli/parse.hpp"

namespace {

using namespace cake::cli;

/// llama.cpp's short names of more than one letter.
std::vector<std::string> arguments(int argc, char** argv) {
    std::vector<std::string> result;
    for (int i = argc - 1; i > 0; i--) {
        const std::string_view argument = argv[i];
        result.emplace_back(argument == "-ctk" ? "--cache-type-k" : argument == "-ctv" ? "--cache-type-v" : argument);
    }
    return result;  // last first, as the parser takes them
}

int execute(int argc, char** argv) {
    CLI::App app{"cake runs large language models on long inputs in a fixed amount of memory.", "cake"};
    app.set_version_flag("--version", "cake 0.1.0");
    app.require_subcommand(1);
    std::function<int()> action;
    add_run(app, action);
    add_info(app, action);
    try {
        app.parse(arguments(argc, argv));
    } catch (const CLI::Success& success) {
        return app.exit(success);
    } catch (const CLI::ParseError& error) {
        complain(std::format("{} (cake --help, or cake run --help, lists what there is)", error.what()));
        return kWrongUsage;
    }
    return action();
}

}  // namespace

int main(int argc, char** argv) {
    try {
        return execute(argc, argv);
    } catch (const std::bad_alloc&) {
        complain("out of memory: a smaller --kv-budget, -b or model needs less");
    } catch (const std::exception& error) {
        complain(std::format("unexpected: {}", error.what()));
    }
    return kFailed;
}
