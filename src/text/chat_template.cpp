#include "text/chat_template.hpp"

#include <fmt/format.h>
#include <llama.h>
#include <xxhash.h>

#include <algorithm>
#include <limits>

#include "text/bounded_json.hpp"
#include "text/json_text.hpp"
#include "text/template_renderer.hpp"

namespace cake {

namespace {

using Json = nlohmann::ordered_json;

/// Parses JSON from the caller. Null if the text is empty. `what` names it in errors.
Result<Json> read_json(const std::string& text, bool is_array, const char* what) {
    constexpr int kMaxDepth = 64;
    if (text.empty()) return Json();
    auto parsed = parse_bounded<Json>(text, kMaxDepth);
    if (!parsed)
        return fail(
            fmt::format("{} must not be nested more than {} levels deep, nor have objects of more than 2,000 fields",
                        what, kMaxDepth));
    if (!(is_array ? parsed->is_array() : parsed->is_object()))
        return fail(fmt::format("{} must be a JSON {}", what, is_array ? "array" : "object"));
    return std::move(*parsed);
}

/// A message as it is passed to the template.
Result<Json> message_of(const ChatMessage& message) {
    if (message.content.contains('\0') || message.role.contains('\0'))
        return fail("a message that contains a zero byte cannot be put into a chat template: is it text?");
    auto fields = read_json(message.fields, false, "the fields of a message");
    if (!fields) return fields;
    Json result = {{"role", message.role}, {"content", message.content}};
    for (const auto& [key, value] : fields->items()) result[key] = value;
    return result;
}

void set_token(Json& context, const Vocabulary& vocabulary, const char* name, int32_t token) {
    if (token != LLAMA_TOKEN_NULL) context[name] = llama_vocab_get_text(vocabulary.get(), token);
}

/// The variables of a template, except the messages and those in `template_kwargs`.
Result<Json> context_of(const Vocabulary& vocabulary, const ChatOptions& options) {
    auto tools = read_json(options.tools, true, "the list of tools");
    if (!tools) return tools;
    Json context = {{"tools", tools->empty() ? Json() : std::move(*tools)},
                    {"documents", nullptr},
                    {"add_generation_prompt", options.add_generation_prompt}};
    set_token(context, vocabulary, "bos_token", llama_vocab_bos(vocabulary.get()));
    set_token(context, vocabulary, "eos_token", llama_vocab_eos(vocabulary.get()));
    return context;
}

/// The variables that come from messages and template_kwargs. Names of control tokens in their strings are text.
Result<Json> conversation_of(std::span<const ChatMessage> messages, const ChatOptions& options) {
    Json conversation = {{"messages", Json::array()}};
    for (const auto& message : messages) {
        auto read = message_of(message);
        if (!read) return read;
        conversation["messages"].push_back(std::move(*read));
    }
    auto kwargs = read_json(options.template_kwargs, false, "chat_template_kwargs");
    if (!kwargs) return kwargs;
    if (kwargs->contains("messages"))
        return fail("chat_template_kwargs cannot contain messages: they are passed separately");
    for (const auto& [key, value] : kwargs->items()) conversation[key] = value;
    return conversation;
}

std::string content_text(const Json& message) {
    const Json& content = message["content"];
    if (content.is_string()) return content.get<std::string>();
    std::string text;
    if (!content.is_array()) return text;
    for (const auto& part : content)
        if (part.is_object() && part.contains("text") && part["text"].is_string())
            text += part["text"].get_ref<const std::string&>();
    return text;
}

/// Renders messages with one of libllama's own templates, found by its name or by a template text that libllama
/// recognises.
Result<std::string> render_known(const Json& messages, const std::string& known, bool is_name, bool answer) {
    std::vector<std::pair<std::string, std::string>> texts;
    size_t n_bytes = 256;
    for (const auto& message : messages) {
        const auto& [role, content] = texts.emplace_back(message["role"].get<std::string>(), content_text(message));
        n_bytes += role.size() + content.size() + 64;
    }
    if (n_bytes > static_cast<size_t>(std::numeric_limits<int32_t>::max()))
        return fail("a conversation of more than 2 GiB cannot be put into a template");
    std::vector<llama_chat_message> views;
    for (const auto& [role, content] : texts) views.push_back({.role = role.c_str(), .content = content.c_str()});
    std::string text(n_bytes, '\0');
    const auto apply = [&] {
        return llama_chat_apply_template(known.c_str(), views.data(), views.size(), answer, text.data(),
                                         static_cast<int32_t>(text.size()));
    };
    int32_t n = apply();
    if (n > static_cast<int32_t>(text.size())) {
        text.resize(static_cast<size_t>(n));
        n = apply();
    }
    if (n < 0) {
        return fail(is_name ? fmt::format("\"{}\" is not one of the chat templates that libllama knows", known)
                            : std::string("the model's chat template is not one of those that libllama knows"));
    }
    text.resize(static_cast<size_t>(n));
    return text;
}

/// The source of the template (Jinja): that in the options or that of the model, which may have another one for tools.
Result<std::string> source_of(const Vocabulary& vocabulary, const ChatOptions& options) {
    if (!options.template_source.empty()) return options.template_source;
    std::optional<std::string> source;
    if (!options.tools.empty()) source = vocabulary.chat_template("tool_use");
    if (!source) source = vocabulary.chat_template();
    if (source) return std::move(*source);
    return fail("the model has no chat template: choose one (such as chatml), or use plain text");
}

/// Removes the tokens that the tokenizer itself adds before and after a text.
ChatText without_added(const Vocabulary& vocabulary, ChatText text) {
    const auto name = [&](std::optional<int32_t> token) {
        return token ? std::string_view(llama_vocab_get_text(vocabulary.get(), *token)) : std::string_view();
    };
    const auto is_typed = [&](size_t begin, size_t end) {
        return std::ranges::any_of(text.typed, [&](size_t at) { return at > begin && at <= end; });
    };
    const auto last = name(vocabulary.last_token());
    if (!last.empty() && text.text.ends_with(last) && !is_typed(text.text.size() - last.size(), text.text.size()))
        text.text.resize(text.text.size() - last.size());
    const auto first = name(vocabulary.first_token());
    if (!first.empty() && text.text.starts_with(first) && !is_typed(0, first.size())) return text.from(first.size());
    return text;
}

// Stands behind the text of a message that is to be continued until the conversation has been rendered.
constexpr std::string_view kContinuesHere = "[[the answer continues here]]";

Result<ChatText> render_whole(const Vocabulary& vocabulary, std::span<const ChatMessage> messages,
                              const ChatOptions& options) {
    if (!options.template_name.empty() && !options.template_source.empty())
        return fail("a chat template by name and one from a file exclude each other");
    auto context = context_of(vocabulary, options);
    if (!context) return std::unexpected(context.error());
    const auto conversation = conversation_of(messages, options);
    if (!conversation) return std::unexpected(conversation.error());
    Json given = *conversation;
    given["tools"] = std::move((*context)["tools"]);
    if (conversation->contains("tools")) given["tools"] = (*conversation)["tools"];
    const auto marks = TypedMarks::choose(vocabulary.controls(), given);
    if (!marks) return std::unexpected(marks.error());
    const Json marked = marks->mark(given);

    Result<std::string> text = fail("");
    if (!options.template_name.empty()) {
        text = render_known(marked["messages"], options.template_name, true, options.add_generation_prompt);
    } else {
        const auto source = source_of(vocabulary, options);
        if (!source) return std::unexpected(source.error());
        if (can_render_templates()) {
            for (const auto& [key, value] : marked.items()) (*context)[key] = value;
            text = render_template(*source, json_text(*context));
        } else {
            text = render_known(marked["messages"], *source, false, options.add_generation_prompt);
        }
    }
    if (!text) return std::unexpected(text.error());
    return without_added(vocabulary, marks->unmark(*text));
}

}  // namespace

uint64_t chat_template_hash(const Vocabulary& vocabulary, const ChatOptions& options) {
    const auto source = options.template_name.empty() ? source_of(vocabulary, options).value_or("") : "";
    const auto text = options.template_name + '\n' + source;
    return XXH3_64bits(text.data(), text.size());
}

Result<ChatText> render_chat(const Vocabulary& vocabulary, std::span<const ChatMessage> messages,
                             const ChatOptions& options) {
    if (!options.continue_final_message) return render_whole(vocabulary, messages, options);
    if (messages.empty()) return fail("there is no last message to continue");
    std::vector<ChatMessage> marked(messages.begin(), messages.end());
    marked.back().content += kContinuesHere;
    auto whole_options = options;
    whole_options.add_generation_prompt = false;
    auto text = render_whole(vocabulary, marked, whole_options);
    if (!text) return text;
    const size_t end = text->text.rfind(kContinuesHere);
    if (end == std::string::npos)
        return fail("the chat template does not write the text of the last message, so it cannot be continued");
    text->text.resize(end);
    std::erase_if(text->typed, [end](size_t at) { return at > end; });
    text->is_open = true;
    return text;
}

}  // namespace cake
