#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cake/engine.hpp"

namespace cake::cli {

/// The results of one run.
struct RunReport {
    std::string policy;
    int64_t prompt_tokens = 0;
    double prefill_seconds = 0;
    double decode_seconds = 0;
    std::vector<Token> tokens;  // generated tokens
    std::string text;           // generated text
};

/// The object of --json (docs/cli.md).
nlohmann::ordered_json to_json(const RunReport& report, const Engine& engine, const Sequence& sequence);

/// The part of this object about memory and layers.
nlohmann::ordered_json held_json(const Sequence& sequence);

/// The results of a run as two lines of text.
std::string summary(const RunReport& report, const Sequence& sequence);

/// The name of the policy, with the scorer and allocator if they replace its own.
std::string policy_name(const SequenceOptions& options);

/// `n` per second; 0 if `seconds` is 0.
double rate(size_t n, double seconds);

/// Formats 200 seconds as "3 min 20 s".
std::string format_duration(double seconds);

const char* to_string(FinishReason reason);

}  // namespace cake::cli
