#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cake/engine.hpp"
#include "cli/documents.hpp"

namespace cake::cli {

/// Flags of `cake ask` that determine the options of its sequence.
struct AskPlan {
    SequenceOptions sequence;   // options set by flags
    bool window_given = false;  // true if a flag sets the window: it is not widened then
    int64_t answer_tokens = 0;  // maximum length of one answer; -1: no limit
    bool open_end = false;      // true if further questions may follow
};

/// Options of the sequence for `documents` and `questions`. The window, whose queries score the tokens of the
/// documents, is widened to cover all questions. For a policy that evicts nothing, the cache is made as large as
/// necessary.
Result<SequenceOptions> sequence_options(const Engine& engine, const AskPlan& plan, const DocumentText& documents,
                                         const std::vector<std::string>& questions);

/// Options for documents that are read before a question is known. The policy, unless `policy_given`, is
/// kAgnosticPolicy, or the default if the model cannot run it. The budget, unless the options state one, is 5 % of the
/// documents' tokens, but at least that of other texts.
Result<SequenceOptions> agnostic_options(const Engine& engine, SequenceOptions options, const std::string& documents,
                                         bool policy_given);

}  // namespace cake::cli
