// Renders conversations with randomly changed chat templates and tokenizes the result.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "fuzz/loop.hpp"
#include "support/test_vocabulary.hpp"
#include "text/chat_template.hpp"
#include "text/utf8.hpp"

namespace {

using cake::ChatMessage;

struct Conversation {
    std::vector<ChatMessage> messages;
    cake::ChatOptions options;
};

std::vector<Conversation> conversations() {
    const ChatMessage user{.role = "user", .content = "Hello <|im_end|>\n{{ x }} \xFF ü☃"};
    const ChatMessage system{.role = "system", .content = " Be short.\n"};
    const ChatMessage call{
        .role = "assistant",
        .content = {},
        .fields =
            R"({"content": null, "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": {"a": [1, 2.5, null], "b": "<|im_start|>"}}}]})"};
    const ChatMessage result{.role = "tool", .content = "{\"t\": 1e99}", .fields = R"({"tool_call_id": "1"})"};
    const ChatMessage parts{
        .role = "user",
        .content = {},
        .fields = R"({"content": [{"type": "text", "text": "one <|im_"}, {"type": "text", "text": "end|>"}]})"};
    const ChatMessage thought{
        .role = "assistant", .content = "<think>\na\n</think>b", .fields = R"({"reasoning_content": "why"})"};
    const std::string tools =
        R"([{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "number"}}, "b": {"type": ["string", "null"], "enum": ["x"]}}, "required": ["a"]}}}])";
    return {{.messages = {user}, .options = {}},
            {.messages = {system, user, thought, user}, .options = {}},
            {.messages = {system, user, call, result}, .options = {.tools = tools}},
            {.messages = {parts, thought},
             .options = {.add_generation_prompt = false, .template_kwargs = R"({"enable_thinking": false})"}},
            {.messages = {}, .options = {}}};
}

std::vector<std::string> read_templates(const std::string& folder) {
    std::vector<std::string> texts;
    std::vector<std::filesystem::path> paths;
    for (const auto& entry : std::filesystem::directory_iterator(folder))
        if (entry.path().extension() == ".jinja") paths.push_back(entry.path());
    std::ranges::sort(paths);
    for (const auto& path : paths) {
        std::ifstream file(path);
        texts.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
    }
    return texts;
}

class Mutator {
  public:
    Mutator(std::vector<std::string> seeds, uint64_t seed) : seeds_(std::move(seeds)), random_(seed) {}

    std::string text() {
        std::string text = seeds_[below(seeds_.size())];
        for (size_t n = below(6); n > 0; n--) change(text);
        return text;
    }

    size_t below(size_t n) { return random_() % n; }

  private:
    void change(std::string& text) {
        static const std::vector<std::string> pieces = {"{%",
                                                        "%}",
                                                        "{{",
                                                        "}}",
                                                        "{#",
                                                        "#}",
                                                        "-%}",
                                                        "{%-",
                                                        "'",
                                                        "\"",
                                                        "(",
                                                        ")",
                                                        "[",
                                                        "]",
                                                        "|",
                                                        "~",
                                                        " if ",
                                                        " else ",
                                                        "{% endif %}",
                                                        "{% for x in messages %}",
                                                        "{% for x in none %}",
                                                        "{% endfor %}",
                                                        "{% raw %}",
                                                        "{% endraw %}",
                                                        "{% generation %}",
                                                        "{% endgeneration %}",
                                                        "{% set x = [x] %}",
                                                        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
                                                        "{{ range(99999999) | list }}",
                                                        "{{ 'a' * 999999999 }}",
                                                        "{{ -1 // 0 }}",
                                                        "{{ 2 ** 999 }}",
                                                        "{{ x[::0] }}",
                                                        "{{ 'é'[1:9:2] }}",
                                                        "{{ messages | tojson(indent=9999999) }}",
                                                        "| tojson",
                                                        "| indent(-3)",
                                                        "| map('upper')",
                                                        "| join",
                                                        ".split('')",
                                                        ".center(99999999999)",
                                                        ".format(1)",
                                                        "{% break %}",
                                                        "{% continue %}",
                                                        "{{ messages.items() }}",
                                                        "\xC3\xBC",
                                                        "<|im_end|>",
                                                        "{{ strftime_now('%') }}",
                                                        "{{ strftime_now('%Y' * 999) }}",
                                                        "{{ raise_exception(messages) }}",
                                                        "{% call m() %}",
                                                        "{% include 'x' %}",
                                                        "{% extends 'x' %}"};
        const size_t at = below(text.size() + 1);
        switch (below(5)) {
            case 0:
                text.insert(at, pieces[below(pieces.size())]);
                break;
            case 1:
                text.erase(at, below(40));
                break;
            case 2:
                text.insert(at, text.substr(below(text.size() + 1), below(200)));
                break;
            case 3:
                if (at < text.size()) text[at] = static_cast<char>(below(256));
                break;
            default: {
                const auto& other = seeds_[below(seeds_.size())];
                const size_t from = below(other.size() + 1);
                text.replace(at, below(100), other, from, below(300));
            }
        }
    }

    std::vector<std::string> seeds_;
    std::mt19937_64 random_;
};

/// Describes what is wrong with the rendered text, or returns an empty string.
std::string look_at(const cake::Vocabulary& vocabulary, const Conversation& conversation, const std::string& source) {
    auto options = conversation.options;
    options.template_source = source;
    const auto text = cake::render_chat(vocabulary, conversation.messages, options);
    if (!text)
        return text.error().message.empty() || !cake::is_utf8(text.error().message) ? "an error without a sentence"
                                                                                    : "";
    if (!std::ranges::is_sorted(text->typed)) return "marks out of order";
    if (!text->typed.empty() && text->typed.back() > text->text.size()) return "a mark outside the text";
    constexpr size_t kMaxTokenized = 1 << 20;
    if (text->text.size() > kMaxTokenized) return "";
    const auto tokens = cake::tokenize_chat(vocabulary, *text, false);
    if (!tokens) return tokens.error().message;
    for (const int32_t token : *tokens)
        if (token < 0 || token >= vocabulary.n_tokens()) return "a token outside the vocabulary";
    return "";
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app{"Chat templates that were changed at random."};
    std::string model;
    std::string folder;
    app.add_option("model", model, "a GGUF file, for its vocabulary")->required();
    app.add_option("templates", folder, "a folder of templates to begin with")->required();
    cake::test::FuzzLoop loop(app, 100'000);
    CLI11_PARSE(app, argc, argv);

    const auto vocabulary = cake::test::vocabulary_of(model);
    const auto all = conversations();
    Mutator mutator(read_templates(folder), loop.seed());
    return loop.run(
        [&] { return mutator.text(); },
        [&](const std::string& source) { return look_at(vocabulary, all[mutator.below(all.size())], source); });
}
