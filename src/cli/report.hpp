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

/// The same for a person, in two lines.
std::string summary(const RunReport& report, const Sequence& sequence);

const char* to_string(FinishReason reason);

}  // namespace cake::cli
