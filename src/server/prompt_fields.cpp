#include "server/prompt_fields.hpp"

#include <algorithm>
#include <format>

#include "cake/token_stream.hpp"
#include "engine/engine_state.hpp"

namespace cake::server {

namespace {

constexpr size_t kMaxPrompts = 64;

/// The tokens of a text, or nothing if `item` is neither a text nor a token.
std::optional<Result<std::vector<Token>>> tokens_of_item(const Json& item, const Engine& engine, bool continues) {
    if (item.is_string()) return TokenStream::whole(engine, item.get_ref<const std::string&>(), continues);
    if (auto token = token_list(Json::array({item}), engine)) return std::move(*token);
    return std::nullopt;
}

std::string expected(const Engine& engine) {
    return std::format(
        "prompt must be a string, an array of tokens below {}, or an array of up to {} of these, none of them empty",
        engine.info().n_vocab, kMaxPrompts);
}

/// Reads one prompt: a text, or an array of tokens and texts.
ApiResult<Prompt> read_one(const Json& value, const Engine& engine, bool with_text) {
    const auto wrong = invalid(expected(engine), "prompt");
    if (!value.is_string() && !value.is_array()) return wrong;
    const auto items = value.is_string() ? Json::array({value}) : value;
    Prompt prompt;
    for (const auto& item : items) {
        auto tokens = tokens_of_item(item, engine, !prompt.tokens.empty());
        if (!tokens) return wrong;
        if (!*tokens) return invalid((*tokens).error().message, "prompt");
        if (with_text && item.is_string()) prompt.text += item.get_ref<const std::string&>();
        if (with_text && !item.is_string()) prompt.text += engine.piece((**tokens).front());
        prompt.tokens.append_range(**tokens);
    }
    if (prompt.tokens.empty()) return invalid("there is nothing to read: the prompt contains no tokens", "prompt");
    return prompt;
}

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
        if (!item.is_number_unsigned()) return std::nullopt;
        const auto token = item.get<uint64_t>();
        if (token >= static_cast<uint64_t>(engine.info().n_vocab)) return std::nullopt;
        tokens.push_back(static_cast<Token>(token));
    }
    return tokens;
}

ApiResult<std::vector<Prompt>> read_prompts(Body& body, const Engine& engine, bool with_text) {
    const Json* value = body.find("prompt");
    if (value == nullptr) return invalid(expected(engine), "prompt");
    const auto is_text = [](const Json& item) { return item.is_string(); };
    const auto is_list = [](const Json& item) { return item.is_array(); };
    const bool several = value->is_array() && !value->empty() &&
                         (std::ranges::all_of(*value, is_text) || std::ranges::any_of(*value, is_list));
    std::vector<Prompt> prompts;
    if (several && value->size() > kMaxPrompts) return invalid(expected(engine), "prompt");
    for (const auto& item : several ? *value : Json::array({*value})) {
        auto prompt = read_one(item, engine, with_text);
        if (!prompt) return std::unexpected(prompt.error());
        prompts.push_back(std::move(*prompt));
    }
    return prompts;
}

ApiResult<Prompt> infill_prompt(const Engine& engine, const std::string& before, const std::string& behind,
                                const std::vector<InfillFile>& files) {
    const auto& vocabulary = EngineAccess::state(engine)->vocabulary;
    const auto marks = vocabulary.infill_tokens();
    if (!marks)
        return invalid("this model cannot fill in the middle of a text: its vocabulary has no tokens for that",
                       "suffix");
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
