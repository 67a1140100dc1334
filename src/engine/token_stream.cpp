#include "cake/token_stream.hpp"

#include "engine/engine_state.hpp"

namespace cake {

namespace {

bool is_space(char c) {
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

/// The last index at which `text` can be split without changing its tokens: that of a single space between two words,
/// which no tokenizer joins to the word before it. 0 if there is none.
size_t last_word_end(std::string_view text) {
    for (size_t i = text.size(); i-- > 2;) {
        if (text[i - 1] == ' ' && !is_space(text[i]) && !is_space(text[i - 2])) return i - 1;
    }
    return 0;
}

/// The last index that does not split a UTF-8 character, for a text that cannot be split between words.
size_t last_character_end(std::string_view text) {
    constexpr size_t kLongestCharacter = 4;
    for (size_t i = text.size(); i > 0 && text.size() - i < kLongestCharacter; i--) {
        const auto byte = static_cast<unsigned char>(text[i - 1]);
        if (byte < 0x80) return i;
        if (byte >= 0xC0) return i - 1;
    }
    return text.size();
}

}  // namespace

TokenStream::TokenStream(const Engine& engine, bool continues)
    : state_(EngineAccess::state(engine)), begun_(continues) {}

Result<std::vector<Token>> TokenStream::feed(std::string_view bytes) {
    // A call to the tokenizer has a fixed cost, so shorter texts wait for more. A text of kMax bytes without a place
    // to split is split between two characters.
    constexpr size_t kMin = size_t{1} << 14U;
    constexpr size_t kMax = size_t{1} << 18U;
    rest_ += bytes;
    std::vector<Token> tokens;
    if (rest_.size() < kMin) return tokens;
    size_t end = last_word_end(rest_);
    if (end == 0 && rest_.size() >= kMax) end = last_character_end(rest_);
    if (end == 0) return tokens;
    auto read = read_piece(std::string_view(rest_).substr(0, end));
    rest_.erase(0, end);
    return read;
}

Result<std::vector<Token>> TokenStream::finish() {
    if (rest_.empty()) return std::vector<Token>();
    auto tokens = read_piece(rest_);
    rest_.clear();
    const auto last = state_->vocabulary.last_token();
    if (tokens && last) tokens->push_back(*last);
    return tokens;
}

Result<std::vector<Token>> TokenStream::whole(const Engine& engine, std::string_view text, bool continues) {
    TokenStream stream(engine, continues);
    auto tokens = stream.feed(text);
    if (!tokens) return tokens;
    const auto rest = stream.finish();
    if (!rest) return rest;
    tokens->append_range(*rest);
    return tokens;
}

Result<std::vector<Token>> TokenStream::read_piece(std::string_view text) {
    const auto& vocabulary = state_->vocabulary;
    if (begun_) return vocabulary.tokenize_on(text);
    begun_ = true;
    auto tokens = vocabulary.tokenize(text, {.around = false, .written_out = true});
    const auto first = vocabulary.first_token();
    const bool written_out = tokens && !tokens->empty() && tokens->front() == first;
    if (tokens && first && !written_out) tokens->insert(tokens->begin(), *first);
    return tokens;
}

}  // namespace cake
