#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <exception>
#include <functional>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cake/device.hpp"
#include "cli/commands.hpp"
#include "cli/output.hpp"
#include "cli/parse.hpp"

namespace {

using namespace cake::cli;

/// Short flags of llama.cpp that have more than one letter, which CLI11 does not know.
constexpr std::array<std::pair<std::string_view, std::string_view>, 7> kShort{{{"-ctk", "--cache-type-k"},
                                                                               {"-ctv", "--cache-type-v"},
                                                                               {"-dev", "--device"},
                                                                               {"-ngl", "--gpu-layers"},
                                                                               {"-ts", "--tensor-split"},
                                                                               {"-sm", "--split-mode"},
                                                                               {"-mg", "--main-gpu"}}};

/// Replaces these flags by their long forms.
std::vector<std::string> arguments(char** argv) {
    std::vector<std::string> result;
    for (char** next = argv + 1; *next != nullptr; next++) {
        const std::string_view argument = *next;
        const auto found = std::ranges::find(kShort, argument, &std::pair<std::string_view, std::string_view>::first);
        result.emplace_back(found == kShort.end() ? argument : found->second);
    }
    std::ranges::reverse(result);  // as CLI11 expects
    return result;
}

std::string command_names(const CLI::App& app) {
    std::string names;
    for (const auto* command : app.get_subcommands({})) names += (names.empty() ? "" : ", ") + command->get_name();
    return names;
}

/// Writes the text that --help or --version requests.
int write_help(const CLI::App& app, const CLI::Success& request) {
    std::ostringstream text;
    app.exit(request, text, text);
    if (auto written = write_output(text.str()); !written) return complain(written.error().message), kFailed;
    return kDone;
}

int execute(int argc, char** argv) {
    CLI::App app{"cake runs large language models on long inputs in a fixed amount of memory.", "cake"};
    app.set_version_flag("--version", "cake " CAKE_VERSION);
    app.require_subcommand(1);
    app.option_defaults()->take_last();  // the last value of a repeated flag counts, as in llama.cpp
    std::function<int()> action;
    add_ask(app, action);
    add_read(app, action);
    add_run(app, action);
    add_chat(app, action);
#ifdef CAKE_SERVER
    add_serve(app, action);
#endif
    add_bench(app, action);
    add_eval(app, action);
    add_inspect(app, action);
    add_info(app, action);
    require_plain_numbers(app);
    if (argc > 1 && argv[1][0] != '-' && app.get_subcommand_no_throw(argv[1]) == nullptr) {
        complain(fmt::format("\"{}\" is not a command; use one of: {}", argv[1], command_names(app)));
        return kWrongUsage;
    }
    try {
        app.parse(arguments(argv));
    } catch (const CLI::Success& success) {
        return write_help(app, success);
    } catch (const CLI::ParseError& error) {
        const auto* command = argc > 1 ? app.get_subcommand_no_throw(argv[1]) : nullptr;
        complain(
            fmt::format("{} (see cake {}--help)", error.what(), command != nullptr ? command->get_name() + " " : ""));
        return kWrongUsage;
    }
    return action();
}

}  // namespace

int main(int argc, char** argv) {
    if (!open_standard_files()) return kFailed;  // before any other file is opened
    cake::on_lost_server([](const std::string& message) {
        complain(message);
        std::_Exit(kFailed);
    });
    try {
        return execute(argc, argv);
    } catch (const std::bad_alloc&) {
        complain("out of memory: use a smaller --kv-budget, -b or model");
    } catch (const std::exception& error) {
        complain(fmt::format("unexpected: {}", error.what()));
    }
    return kFailed;
}
