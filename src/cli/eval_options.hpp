#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "cake/policy.hpp"
#include "cli/flags.hpp"
#include "eval/runner.hpp"

namespace cake::cli {

struct EvalFlags {
    std::string task;
    ModelFlags model;
    KvFlags kv;
    std::vector<std::string> policies = {kFullPolicy, "snapkv", "cake", kDefaultPolicy};
    std::vector<int64_t> budgets = {128, 512};
    std::vector<int64_t> lengths;
    std::vector<double> depths = {0, 25, 50, 75, 100};
    std::vector<int32_t> pool_kernels = {0};
    int32_t n_samples = 20;
    int32_t n_skip = 0;
    int32_t n_questions = 1;
    std::vector<std::string> subtasks;  // empty: all
    int32_t max_answer = 0;             // 0: as the task has it
    bool blind = false;
    bool decode = false;
    int64_t n_continuation = 256;
    uint64_t seed = 1;
    std::string wording = "auto";
    std::string filler = "generated";
    std::vector<std::string> data;
    int64_t max_prompt = 0;
    bool keep_going = false;
    std::string format = "table";
    std::string plot;
    std::string plot_kind = "auto";
    std::string answers;

    std::vector<eval::Setting> settings;  // combinations of policies and budgets
};

/// Adds the options of `cake eval`. `flags` must outlive the command.
void add_eval_options(CLI::App& command, EvalFlags& flags);

/// Completes the flags after they have been parsed: lists without repetitions, and the settings. Throws a usage error
/// if the task does not exist, a flag has no effect on it, or a setting is not possible.
void check_eval_options(const CLI::App& command, EvalFlags& flags);

}  // namespace cake::cli
