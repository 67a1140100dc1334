#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cake/engine.hpp"
#include "cli/documents.hpp"
#include "cli/sources.hpp"

namespace cake::cli {

struct Answer {
    std::string question;
    std::string text;
    FinishReason finish_reason = FinishReason::length;
    int64_t n_tokens = 0;
    double seconds = 0;  // from its first token to its last
    std::vector<Source> sources;
};

/// What `cake ask` did.
struct AskReport {
    std::string policy;
    std::vector<std::string> documents;  // names
    int64_t prompt_tokens = 0;
    double prefill_seconds = 0;
    std::vector<Answer> answers;
};

/// The object of --json (docs/cli.md).
std::string to_json(const AskReport& report, const Engine& engine, const Sequence& sequence);

/// The documents' part of it for a person, in one line.
std::string summary(const AskReport& report, const Sequence& sequence);

/// The sources of an answer for a person, a line or two each; `columns`: how wide a line may be.
std::string shown(const std::vector<Source>& sources, size_t columns);

}  // namespace cake::cli
