#pragma once

#include <string>

namespace cake {

/// One message of a conversation. `role` is a role of the model's chat template: "system", "user", "assistant", "tool".
struct ChatMessage {
    std::string role;
    std::string content;
    /// A JSON object with other fields that the template reads: "tool_calls", "reasoning_content", "name". If it has a
    /// "content", such as null or a list of parts, that replaces `content`.
    std::string fields{};
};

/// How to render a conversation as a prompt. If neither template is set, the model's own is used.
struct ChatOptions {
    bool add_generation_prompt = true;  // end the prompt where the next answer begins
    /// End the prompt with the text of the last message, for the answer to continue.
    bool continue_final_message = false;
    std::string template_name{};    // name of a template in libllama (chatml, llama3, …)
    std::string template_source{};  // source of a template (Jinja)
    std::string tools{};            // a JSON array of functions, as in the OpenAI API
    std::string template_kwargs{};  // a JSON object of template variables: {"enable_thinking": false}
};

}  // namespace cake
