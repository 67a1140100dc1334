#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cake/engine.hpp"
#include "cli/documents.hpp"

namespace cake::cli {

/// What is to be asked, as far as it decides what the sequence is made with.
struct AskPlan {
    SequenceOptions sequence;   // from the flags
    bool window_given = false;  // by a flag: it is not widened
    int64_t answer_tokens = 0;  // most of one answer; -1: no limit
    bool open_end = false;      // further questions may follow
};

/// Options of the sequence that reads `documents` and these questions. The window, whose queries judge the documents,
/// is widened over all questions, and the full cache of a policy that keeps everything is made as large as it needs to
/// be.
Result<SequenceOptions> sequence_options(const Engine& engine, const AskPlan& plan, const DocumentText& documents,
                                         const std::vector<std::string>& questions);

}  // namespace cake::cli
