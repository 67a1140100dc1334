#include <llama.h>

#include <algorithm>

#include "text/chat_template.hpp"
#include "text/white_space.hpp"

namespace cake {

namespace {

/// A control token that the template wrote.
struct Written {
    size_t begin = 0;
    size_t end = 0;
    int32_t token = -1;
};

std::vector<Written> written_tokens(const ControlTexts& controls, const ChatText& text) {
    std::vector<Written> written;
    auto typed = text.typed.begin();
    for (size_t at = 0; at < text.text.size();) {
        const auto found = controls.longest_at(text.text, at);
        typed = std::find_if(typed, text.typed.end(), [&](size_t offset) { return offset > at; });
        const bool is_typed = typed != text.typed.end() && *typed <= at + found.n_bytes;
        if (found.n_bytes == 0 || is_typed) {
            at++;
            continue;
        }
        written.push_back({.begin = at, .end = at + found.n_bytes, .token = found.token});
        at += found.n_bytes;
    }
    return written;
}

/// Removes the white space that the tokens before and after the text strip.
std::string_view stripped(const llama_vocab* vocab, std::string_view text, int32_t before, int32_t behind) {
    const auto takes = [&](int32_t token, llama_token_attr side) {
        return token >= 0 && (static_cast<uint32_t>(llama_vocab_get_attr(vocab, token)) & side) != 0;
    };
    if (takes(before, LLAMA_TOKEN_ATTR_RSTRIP))
        while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
    if (takes(behind, LLAMA_TOKEN_ATTR_LSTRIP))
        while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
    return text;
}

}  // namespace

Result<std::vector<int32_t>> tokenize_chat(const Vocabulary& vocabulary, const ChatText& text, bool continues) {
    std::vector<int32_t> tokens;
    bool begun = continues;
    const auto add = [&](std::string_view piece, bool written_out) -> Result<void> {
        if (piece.empty()) return {};
        const auto read = begun ? vocabulary.tokenize_on(piece, written_out)
                                : vocabulary.tokenize(piece, {.around = false, .written_out = written_out});
        if (!read) return std::unexpected(read.error());
        tokens.append_range(*read);
        return {};
    };
    if (const auto first = vocabulary.first_token(); first && !continues) tokens.push_back(*first);

    // A part between two control tokens of the template is tokenized on its own, as text, if it contains typed names.
    // Consecutive other parts are tokenized together with the control tokens around them. Splitting at control tokens
    // does not change the result, because no tokenizer looks beyond them.
    const auto written = text.typed.empty() ? std::vector<Written>() : written_tokens(vocabulary.controls(), text);
    size_t at = 0;
    for (size_t i = 0; i < text.typed.size();) {
        const size_t typed = text.typed[i];
        const auto behind = std::ranges::find_if(written, [&](const Written& token) { return token.begin >= typed; });
        const size_t end = behind == written.end() ? text.text.size() : behind->begin;
        const size_t begin = behind == written.begin() ? 0 : std::prev(behind)->end;
        if (auto done = add(std::string_view(text.text).substr(at, begin - at), true); !done)
            return std::unexpected(done.error());
        begun = begun && begin == 0;
        const auto piece = stripped(vocabulary.get(), std::string_view(text.text).substr(begin, end - begin),
                                    behind == written.begin() ? -1 : std::prev(behind)->token,
                                    behind == written.end() ? -1 : behind->token);
        if (auto done = add(piece, false); !done) return std::unexpected(done.error());
        begun = false;
        at = end;
        while (i < text.typed.size() && text.typed[i] <= end) i++;
    }
    if (auto done = add(std::string_view(text.text).substr(at), true); !done) return std::unexpected(done.error());
    if (const auto last = vocabulary.last_token(); last && !text.is_open) tokens.push_back(*last);
    return tokens;
}

}  // namespace cake
