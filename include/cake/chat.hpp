#pragma once

#include <string>

namespace cake {

/// One message of a conversation; `role` is what the model's template knows: "system", "user", "assistant", "tool".
struct ChatMessage {
    std::string role;
    std::string content;
    /// A JSON object with what else the template reads: "tool_calls", "reasoning_content", "name". A "content" in it,
    /// such as null or a list of parts, stands for the one above.
    std::string fields{};
};

/// How a conversation becomes a prompt. What is empty is the model's own.
struct ChatOptions {
    bool add_generation_prompt = true;  // up to where the next answer begins
    std::string template_name{};        // a template that libllama knows by name (chatml, llama3, …)
    std::string template_source{};      // a template as a text (Jinja)
    std::string tools{};                // a JSON array of functions, as the OpenAI API has it
    std::string template_kwargs{};      // a JSON object of further variables: {"enable_thinking": false}
};

}  // namespace cake
