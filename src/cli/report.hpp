#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cake/engine.hpp"

namespace cake::cli {

/// What one run did.
struct RunReport {
    std::string policy;
    int64_t prompt_tokens = 0;
    double prefill_seconds = 0;
    double decode_seconds = 0;
    std::vector<Token> tokens;  // generated
    std::string text;           // of these
};

/// The object of --json (docs/cli.md).
nlohmann::ordered_json to_json(const RunReport& report, const Engine& engine, const Sequence& sequence);

/// The part of it that says what is held: memory, and every layer.
nlohmann::ordered_json held_json(const Sequence& sequence);

/// What a run did for a person, in two lines.
std::string summary(const RunReport& report, const Sequence& sequence);

/// The policy, with scorer and allocator where they replace its own.
std::string policy_name(const SequenceOptions& options);

/// A number of things in a second; 0 if they took no time.
double rate(size_t n, double seconds);

const char* to_string(FinishReason reason);

}  // namespace cake::cli
