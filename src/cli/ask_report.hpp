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
    bool repeats_itself = false;  // it was stopped because of that
    int64_t n_tokens = 0;
    double seconds = 0;  // time from the first token to the last
    std::vector<Source> sources;
};

/// The results of `cake ask`.
struct AskReport {
    std::string policy;
    std::vector<std::string> documents;  // names of the documents
    int64_t loaded_tokens = 0;           // tokens that a file of `cake read` holds; 0: none was loaded
    int64_t prompt_tokens = 0;           // tokens of the documents that were read, and of the first question
    double prefill_seconds = 0;          // time to load or read all of these
    std::vector<Answer> answers;
};

/// The object of --json (docs/cli.md).
std::string to_json(const AskReport& report, const Engine& engine, const Sequence& sequence);

/// Memory and prefill of the documents as one line of text.
std::string summary(const AskReport& report, const Sequence& sequence);

/// The sources of an answer as text, two lines each. `columns`: maximum width of a line.
std::string shown(const std::vector<Source>& sources, size_t columns);

}  // namespace cake::cli
