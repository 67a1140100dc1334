#include <algorithm>

#include "engine/engine_state.hpp"
#include "server/chat_messages.hpp"
#include "server/constraint_fields.hpp"
#include "server/document_prompt.hpp"
#include "server/generation_fields.hpp"
#include "server/request.hpp"
#include "server/tool_fields.hpp"
#include "text/reply_style.hpp"

namespace cake::server {

namespace {

/// Returns the server's options with the template variables of the request, which replace those of the same name.
ChatOptions read_chat_options(Body& body, const ChatOptions& usual, int64_t max_reasoning) {
    ChatOptions options = usual;
    Json all = usual.template_kwargs.empty() ? Json::object() : Json::parse(usual.template_kwargs, nullptr, false);
    constexpr size_t kMaxWord = 64;
    if (max_reasoning == 0) all["enable_thinking"] = false;
    if (const auto thinks = body.flag("enable_thinking")) all["enable_thinking"] = *thinks;
    if (const auto effort = body.text("reasoning_effort", kMaxWord)) all["reasoning_effort"] = *effort;
    if (const Json* variables = body.find("chat_template_kwargs")) {
        if (variables->is_object())
            all.update(*variables);
        else
            body.wrong("chat_template_kwargs",
                       "chat_template_kwargs must be an object with variables for the chat template");
    }
    if (!all.empty()) options.template_kwargs = all.dump();
    return options;
}

bool has_calls(const ChatMessage& message) {
    return !message.fields.empty() && Json::parse(message.fields, nullptr, false).contains("tool_calls");
}

/// The messages with the arguments of calls as texts, which some templates join to others.
std::vector<ChatMessage> with_arguments_as_text(std::vector<ChatMessage> messages) {
    for (auto& message : messages) {
        auto fields = message.fields.empty() ? Json::object() : Json::parse(message.fields, nullptr, false);
        if (!fields.contains("tool_calls")) continue;
        for (auto& call : fields["tool_calls"])
            if (auto& arguments = call["function"]["arguments"]; !arguments.is_string())
                arguments = Json(arguments.dump());
        message.fields = fields.dump();
    }
    return messages;
}

/// The conversation with the system message in the first message of the user, for templates without the former.
std::vector<ChatMessage> with_system_in_user(std::vector<ChatMessage> messages) {
    if (messages.size() < 2 || messages[0].role != "system" || messages[1].role != "user") return messages;
    messages[1].content = messages[0].content + "\n\n" + messages[1].content;
    messages.erase(messages.begin());
    return messages;
}

/// The tokens of a conversation. Templates differ in what they accept.
Result<std::vector<Token>> chat_tokens(const RequestContext& context, const std::vector<ChatMessage>& messages,
                                       const ToolFields& tools, ChatOptions options) {
    const auto& engine = context.engine;
    const bool has_tools = !tools.json.empty() || std::ranges::any_of(messages, [](const ChatMessage& message) {
        return message.role == "tool" || has_calls(message);
    });
    if (!has_tools) return engine.chat_tokens(messages, options);
    if (!context.style.template_has_tools) {
        const auto plain = with_tools_as_text(messages, tools.json);
        auto tokens = engine.chat_tokens(plain, options);
        return tokens ? std::move(tokens) : engine.chat_tokens(with_system_in_user(plain), options);
    }
    options.tools = tools.json;
    auto tokens = engine.chat_tokens(messages, options);
    if (tokens) return tokens;
    auto others = engine.chat_tokens(with_arguments_as_text(messages), options);
    return others ? std::move(others) : std::move(tokens);
}

/// The part of the prompt that conversations with the same system message and tools have in common. A few tokens before
/// its end are left out, because they may depend on the text that follows.
PromptPrefix shared_prefix(const RequestContext& context, const std::vector<ChatMessage>& messages,
                           const ToolFields& tools, const ChatOptions& chat, const std::vector<Token>& prompt) {
    if (std::ssize(prompt) <= PromptPrefix::kMinTokens) return {};
    constexpr size_t kBlock = 32;
    const auto end_of_system = std::ranges::find_if_not(messages, is_system);
    std::vector<ChatMessage> other(messages.begin(), end_of_system);
    if (other.empty() && tools.json.empty()) return {};
    other.push_back({.role = "user", .content = "[[another question]]"});
    auto options = chat;
    options.continue_final_message = false;
    const auto tokens = chat_tokens(context, other, tools, options);
    if (!tokens) return {};
    const auto n = static_cast<size_t>(std::ranges::mismatch(prompt, *tokens).in1 - prompt.begin());
    return {.n_tokens = static_cast<int64_t>((std::max<size_t>(n, 1) - 1) / kBlock * kBlock),
            .may_evict = !tools.json.empty()};
}

/// Length of the prompt up to the end of its last message. Later prompts of the conversation have this part, but
/// perhaps not what stands in front of the answer, such as the beginning of its reasoning.
int64_t tokens_of_messages(const RequestContext& context, const std::vector<ChatMessage>& messages,
                           const ToolFields& tools, ChatOptions chat, const std::vector<Token>& prompt) {
    chat.add_generation_prompt = false;
    const auto tokens = chat_tokens(context, messages, tools, chat);
    if (!tokens) return 0;
    return std::ranges::mismatch(prompt, *tokens).in1 - prompt.begin();
}

/// Whether the prompt ends where reasoning begins, as the templates of some models have it.
bool ends_in_reasoning(const Engine& engine, const std::vector<Token>& prompt, std::string_view mark) {
    constexpr ptrdiff_t kLast = 16;
    std::string end;
    for (auto token = prompt.end() - std::min(kLast, std::ssize(prompt)); token != prompt.end(); ++token)
        end += engine.piece(*token, true);
    while (!end.empty() && (end.back() == '\n' || end.back() == ' ')) end.pop_back();
    return end.ends_with(mark);
}

/// `schema`: that of an answer without calls, if the request has one.
ApiResult<void> constrain(const RequestContext& context, const ToolFields& tools,
                          const std::optional<std::string>& schema, CompletionRequest& request) {
    auto& generation = request.generation;
    if (tools.callable.empty()) return {};
    if (generation.constraint && !schema)
        return invalid("tools and a constraint on the answer that is no JSON schema exclude each other: leave one out",
                       "tools");
    const auto& vocabulary = EngineAccess::state(context.engine)->vocabulary;
    auto choice = tools.choice;
    if (generation.constraint) choice.content_schema = *schema;
    const auto grammar = tool_grammar(vocabulary, request.reply, choice);
    if (grammar.empty()) return {};
    auto constraint = context.tool_constraints.get(vocabulary, grammar);
    if (constraint)
        generation.constraint = std::move(*constraint);
    else if (choice.is_required || !choice.content_schema.empty() ||
             constraint.error().code != Error::Code::unsupported)
        return invalid("the parameters of the tools cannot be enforced: " + constraint.error().message, "tools");
    return {};
}

/// Reads whether the last message is continued or answered. Without the fields for that, an assistant's is continued.
void read_continuation(Body& body, const std::vector<ChatMessage>& messages, ChatOptions& chat) {
    const auto continues = body.flag("continue_final_message");
    const auto begins = body.flag("add_generation_prompt");
    const bool is_begun = !messages.empty() && messages.back().role == "assistant" && !has_calls(messages.back());
    if (continues.value_or(false) && begins.value_or(false))
        body.wrong("continue_final_message", "continue_final_message and add_generation_prompt exclude each other");
    if (continues.value_or(false) && !is_begun)
        body.wrong("continue_final_message",
                   "continue_final_message needs a last message of the assistant with a text");
    chat.continue_final_message = is_begun && continues.value_or(!begins.value_or(false));
    chat.add_generation_prompt = begins.value_or(true);
}

/// What a model is made to write to end its reasoning.
std::string ending_of(const ReasoningMarks& marks, const ReplyFormat& format) {
    if (!format.turn.empty()) return std::string(marks.end) + std::string(format.turn);
    return "\n" + std::string(marks.end) + "\n\n";
}

/// Reads whether reasoning has its own field in the answer, and its maximum length.
ReasoningOptions read_reasoning(Body& body, const ReasoningOptions& usual) {
    ReasoningOptions options = usual;
    constexpr size_t kMaxWord = 32;
    if (const auto format = body.text("reasoning_format", kMaxWord)) {
        if (*format != "none" && *format != "auto" && *format != "deepseek" && *format != "deepseek-legacy")
            body.wrong("reasoning_format", "reasoning_format must be none, auto or deepseek");
        options.is_content = *format == "none";
    }
    for (const char* name : {"reasoning_budget", "thinking_budget_tokens", "thinking_token_budget"})
        if (const auto n = body.integer(name, -1, int64_t{1} << 31)) options.max_tokens = *n;
    return options;
}

/// Makes a prompt that begins with a document, and the options for it.
ApiResult<std::vector<Token>> begin_with_document(const RequestContext& context, const std::string& name,
                                                  const std::vector<ChatMessage>& messages, const ChatOptions& chat,
                                                  GenerationRequest& generation) {
    const auto document = context.documents.find(name);
    if (!document) return invalid(document.error().message, "document");
    if (const auto problem = context.documents.problem_of(**document, context.limits); !problem.empty())
        return invalid(problem, "document");
    auto tokens = document_tokens(context.engine, **document, messages, chat);
    if (!tokens) return invalid(tokens.error().message, "messages");
    generation.saved = (*document)->file;
    generation.sequence = document_options(**document, generation.sequence);
    return std::move(*tokens);
}

/// Refuses what cannot go together with a document.
void check_document_fields(Body& body, const ToolFields& tools) {
    if (!tools.json.empty())
        body.wrong("tools", "tools and document exclude each other, because tools would stand before the document");
    if (body.find("policy") != nullptr)
        body.wrong("policy", "policy and document exclude each other: the document was read with a policy of its own");
    if (body.json().value("n", Json()) > 1)
        body.wrong("n", "n must be 1 with a document: send several requests instead");
}

}  // namespace

ApiResult<CompletionRequest> read_chat_request(const RequestContext& context, Body body) {
    CompletionRequest request;
    const auto messages = read_messages(body);
    const auto reasoning = read_reasoning(body, context.reasoning);
    auto chat = read_chat_options(body, context.chat, reasoning.max_tokens);
    read_continuation(body, messages, chat);
    const auto tools = read_tools(body);
    read_generation_fields(body, context, request);
    auto& generation = request.generation;
    const auto old_limit = read_limit(body, "max_tokens", context);
    const auto limit = read_limit(body, "max_completion_tokens", context);
    const auto llama_limit = read_limit(body, "n_predict", context);
    generation.max_tokens = limit.value_or(old_limit.value_or(llama_limit.value_or(-1)));
    constexpr int64_t kMaxLikeliest = 20;
    const bool logprobs = body.flag("logprobs").value_or(false);
    const auto top = body.integer("top_logprobs", 0, kMaxLikeliest);
    if (top && !logprobs) body.wrong("top_logprobs", "top_logprobs needs logprobs to be true");
    if (logprobs) generation.n_logprobs = static_cast<int32_t>(top.value_or(0));
    body.unsupported("functions", {Json::array()});
    body.unsupported("function_call", {"none", "auto"});
    body.unsupported("modalities", {Json::array({"text"})});
    body.unsupported("audio", {});
    body.unsupported("prediction", {});
    body.unsupported("web_search_options", {});
    constexpr size_t kMaxName = 256;
    const auto document = body.text("document", kMaxName);
    if (document) check_document_fields(body, tools);
    if (auto read = body.finish(); !read) return std::unexpected(read.error());

    auto tokens = ApiResult<std::vector<Token>>();
    if (document) {
        tokens = begin_with_document(context, *document, messages, chat, generation);
    } else if (auto read = chat_tokens(context, messages, tools, chat)) {
        tokens = std::move(*read);
    } else {
        tokens = invalid(read.error().message, "messages");
    }
    if (!tokens) return std::unexpected(tokens.error());
    if (tokens->empty()) return invalid("there is nothing to read: the prompt contains no tokens", "messages");
    if (generation.reuse && !document) {
        generation.prefix = shared_prefix(context, messages, tools, chat, *tokens);
        if (context.engine.info().n_recurrent_layers > 0)
            generation.n_messages = tokens_of_messages(context, messages, tools, chat, *tokens);
    }
    // The answers of gpt-oss come in channels, with tools or without.
    if (!tools.callable.empty() || !context.style.format->turn.empty()) request.reply.format = context.style.format;
    request.reply.tools = tools.callable;
    // Where a constraint of the whole answer leaves no room for it, there is no reasoning.
    const bool may_reason = !generation.constraint || !tools.callable.empty();
    if (const auto marks = context.style.reasoning; marks && may_reason) {
        const bool is_begun = ends_in_reasoning(context.engine, *tokens, marks->begin);
        if (!reasoning.is_content) request.reply.reasoning = marks;
        request.reply.begins_in_reasoning = is_begun && !reasoning.is_content;
        if (reasoning.max_tokens >= 0)
            generation.reasoning = {.begin = std::string(marks->begin),
                                    .end = std::string(marks->end),
                                    .ending = ending_of(*marks, *context.style.format),
                                    .max_tokens = reasoning.max_tokens,
                                    .is_begun = is_begun};
    }
    request.prompts.push_back({.tokens = std::move(*tokens)});
    if (auto constrained = constrain(context, tools, schema_of_answer(body.json()), request); !constrained)
        return std::unexpected(constrained.error());
    request.unknown = body.unknown();
    return request;
}

}  // namespace cake::server
