#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "server/body.hpp"
#include "server/request.hpp"

namespace cake::server {

constexpr size_t kMaxPromptBytes = size_t{64} << 20U;

/// Reads an array of tokens; nothing if it holds something else.
std::optional<std::vector<Token>> token_list(const Json& list, const Engine& engine);

/// Reads the field `prompt`: a text, an array of tokens, an array of texts and tokens that is one prompt, or an array
/// of prompts. An array of texts is an array of prompts. `with_text`: fill in Prompt::text.
ApiResult<std::vector<Prompt>> read_prompts(Body& body, const RequestContext& context, bool with_text);

/// A file that goes with a text whose middle is filled in.
struct InfillFile {
    std::string path;
    std::string text;
};

/// The prompt for filling in the text between `before` and `behind`. `files`: others of the same repository. `field`:
/// the field of the request that an error names.
ApiResult<Prompt> infill_prompt(const Engine& engine, const std::string& before, const std::string& behind,
                                const std::vector<InfillFile>& files = {}, const char* field = "suffix");

}  // namespace cake::server
