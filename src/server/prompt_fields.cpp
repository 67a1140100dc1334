#include "server/prompt_fields.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <span>

#include "cake/token_stream.hpp"
#include "engine/engine_state.hpp"

namespace cake::server {

namespace {

std::string expected(const RequestContext& context) {
    return fmt::format(
        "prompt must be a string, an array of tokens below {}, or an array of up to {} of these, none of them empty",
        context.engine.info().n_vocab, context.max_prompts);
}

std::optional<Token> token_of(const Json& item, const Engine& engine) {
    if (!item.is_number_unsigned()) return std::nullopt;
    const auto token = item.get<uint64_t>();
    if (token >= static_cast<uint64_t>(engine.info().n_vocab)) return std::nullopt;
    return static_cast<Token>(token);
}

/// Reads one prompt: a text, or an array of tokens and texts.
class PromptReader {
  public:
    PromptReader(const RequestContext& context, bool with_text) : context_(context), with_text_(with_text) {}

    ApiResult<Prompt> read(const Json& value) {
        if (value.is_string()) {
            if (auto added = add(value); !added) return std::unexpected(added.error());
        } else if (value.is_array()) {
            for (const auto& item : value)
                if (auto added = add(item); !added) return std::unexpected(added.error());
        } else {
            return invalid(expected(context_), "prompt");
        }
        if (prompt_.tokens.empty()) return invalid("there is nothing to read: the prompt contains no tokens", "prompt");
        return std::move(prompt_);
    }

  private:
    ApiResult<void> add(const Json& item) {
        if (item.is_string()) return add_text(item.get_ref<const std::string&>());
        const auto token = token_of(item, context_.engine);
        if (!token) return invalid(expected(context_), "prompt");
        prompt_.tokens.push_back(*token);
        if (with_text_) prompt_.text += context_.engine.piece(*token);
        return {};
    }

    ApiResult<void> add_text(const std::string& text) {
        if (auto fits = check_length(); !fits) return fits;
        const auto tokens = TokenStream::whole(context_.engine, text, !prompt_.tokens.empty());
        if (!tokens) return invalid(tokens.error().message, "prompt");
        prompt_.tokens.append_range(*tokens);
        if (with_text_) prompt_.text += text;
        return {};
    }

    /// The texts of an array are tokenized only as far as they can fit into the context.
    ApiResult<void> check_length() const {
        if (std::ssize(prompt_.tokens) < context_.n_ctx) return {};
        return std::unexpected(
            ApiError{.message = fmt::format("the prompt has {} tokens or more, and with its answer it has to fit into "
                                            "the context of {}: send a shorter one, or start the server with a "
                                            "larger context (-c)",
                                            prompt_.tokens.size(), context_.n_ctx),
                     .param = "prompt",
                     .code = "context_length_exceeded"});
    }

    const RequestContext& context_;
    bool with_text_;
    Prompt prompt_{};
};

Result<void> append_text(const Vocabulary& vocabulary, const std::string& text, std::vector<Token>& tokens) {
    if (text.empty()) return {};
    const auto read = vocabulary.tokenize(text, {.around = false, .written_out = false});
    if (!read) return std::unexpected(read.error());
    tokens.append_range(*read);
    return {};
}

}  // namespace

std::optional<std::vector<Token>> token_list(const Json& list, const Engine& engine) {
    std::vector<Token> tokens;
    for (const auto& item : list) {
        const auto token = token_of(item, engine);
        if (!token) return std::nullopt;
        tokens.push_back(*token);
    }
    return tokens;
}

ApiResult<std::vector<Prompt>> read_prompts(Body& body, const RequestContext& context, bool with_text) {
    const Json* value = body.find("prompt");
    if (value == nullptr) return invalid(expected(context), "prompt");
    const auto is_text = [](const Json& item) { return item.is_string(); };
    const auto is_list = [](const Json& item) { return item.is_array(); };
    const bool several = value->is_array() && !value->empty() &&
                         (std::ranges::all_of(*value, is_text) || std::ranges::any_of(*value, is_list));
    if (several && value->size() > context.max_prompts) return invalid(expected(context), "prompt");
    const auto items = several ? std::span(value->get_ref<const Json::array_t&>()) : std::span(value, 1);
    std::vector<Prompt> prompts;
    for (const auto& item : items) {
        auto prompt = PromptReader(context, with_text).read(item);
        if (!prompt) return std::unexpected(prompt.error());
        prompts.push_back(std::move(*prompt));
    }
    return prompts;
}

ApiResult<Prompt> infill_prompt(const Engine& engine, const std::string& before, const std::string& behind,
                                const std::vector<InfillFile>& files, const char* field) {
    const auto& vocabulary = EngineAccess::state(engine)->vocabulary;
    const auto marks = vocabulary.infill_tokens();
    if (!marks)
        return invalid("this model cannot fill in the middle of a text: its vocabulary has no tokens for that", field);
    Prompt prompt;
    auto& tokens = prompt.tokens;
    if (const auto first = vocabulary.first_token()) tokens.push_back(*first);
    Result<void> added;
    const auto add = [&](const std::string& text) {
        if (added) added = append_text(vocabulary, text, tokens);
    };
    if (!files.empty() && marks->repository >= 0) {
        tokens.push_back(marks->repository);
        add("project\n");
    }
    for (const auto& file : files) {
        if (marks->file >= 0) tokens.push_back(marks->file);
        add(file.path + "\n" + file.text + "\n");
    }
    if (!files.empty() && marks->file >= 0) {
        tokens.push_back(marks->file);
        add("this file\n");
    }
    tokens.push_back(marks->prefix);
    add(before);
    tokens.push_back(marks->suffix);
    add(behind);
    tokens.push_back(marks->middle);
    if (!added) return invalid(added.error().message, "prompt");
    return prompt;
}

}  // namespace cake::server
