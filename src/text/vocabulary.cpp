#include "text/vocabulary.hpp"

#include <fmt/format.h>
#include <gguf.h>
#include <llama.h>

#include <algorithm>
#include <exception>
#include <limits>
#include <mutex>
#include <unordered_set>

namespace cake {

namespace {

/// The length of an array of the given type; -1 if the key is missing, -2 if the value is something else.
int64_t array_length(const gguf_context* metadata, const char* key, gguf_type type) {
    const int64_t id = gguf_find_key(metadata, key);
    if (id < 0) return -1;
    if (gguf_get_kv_type(metadata, id) != GGUF_TYPE_ARRAY || gguf_get_arr_type(metadata, id) != type) return -2;
    return static_cast<int64_t>(gguf_get_arr_n(metadata, id));
}

Result<void> check_model(const gguf_context* metadata) {
    const int64_t id = gguf_find_key(metadata, "tokenizer.ggml.model");
    if (id < 0 || gguf_get_kv_type(metadata, id) != GGUF_TYPE_STRING) {
        return fail(Error::Code::corrupt, "has no vocabulary (tokenizer.ggml.model is missing)");
    }
    const std::string_view model = gguf_get_val_str(metadata, id);
    if (model != "llama" && model != "gpt2") {
        return fail(Error::Code::unsupported,
                    fmt::format("the tokenizer \"{}\" is not supported; llama and gpt2 are", model.substr(0, 40)));
    }
    return {};
}

/// Checks what libllama does not: types and lengths of arrays, and that no token occurs twice.
Result<void> check_vocabulary(const gguf_context* metadata) {
    if (auto model = check_model(metadata); !model) return model;
    const int64_t n_tokens = array_length(metadata, "tokenizer.ggml.tokens", GGUF_TYPE_STRING);
    if (n_tokens < 1 || n_tokens > (1 << 26))
        return fail(Error::Code::corrupt, "tokenizer.ggml.tokens must be an array of strings, one for each token");

    const int64_t id = gguf_find_key(metadata, "tokenizer.ggml.tokens");
    std::unordered_set<std::string> seen;
    for (int64_t i = 0; i < n_tokens; i++) {
        std::string text = gguf_get_arr_str(metadata, id, static_cast<size_t>(i));
        if (text.empty()) text = fmt::format("[EMPTY_{}]", i);  // name that libllama gives it
        if (!seen.insert(std::move(text)).second) {
            return fail(Error::Code::corrupt, fmt::format("tokenizer.ggml.tokens contains the token {} twice", i));
        }
    }
    const auto per_token = [&](const char* key, gguf_type type) {
        const int64_t n = array_length(metadata, key, type);
        return n == -1 || n == n_tokens;
    };
    if (!per_token("tokenizer.ggml.scores", GGUF_TYPE_FLOAT32) ||
        !per_token("tokenizer.ggml.token_type", GGUF_TYPE_INT32)) {
        return fail(Error::Code::corrupt,
                    fmt::format("tokenizer.ggml.scores and token_type must be arrays of {} numbers, one for each token",
                                n_tokens));
    }
    if (array_length(metadata, "tokenizer.ggml.merges", GGUF_TYPE_STRING) == -2) {
        return fail(Error::Code::corrupt, "tokenizer.ggml.merges must be an array of strings");
    }
    return {};
}

}  // namespace

void silence_libraries() {
    static std::once_flag once;
    std::call_once(once, [] { llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr); });
}

Result<Vocabulary> Vocabulary::load(const std::string& path, const gguf_context* metadata) {
    if (auto checked = check_vocabulary(metadata); !checked)
        return fail(checked.error().code, path + ": " + checked.error().message);

    llama_model_params params = llama_model_default_params();
    params.vocab_only = true;
    Vocabulary result;
    try {
        result.model_.reset(llama_model_load_from_file(path.c_str(), params));
    } catch (const std::exception&) {
        result.model_.reset();
    }
    if (!result.model_)
        return fail(Error::Code::corrupt,
                    path + ": libllama cannot read its vocabulary; the tokenizer's metadata is damaged or too new");
    result.vocab_ = llama_model_get_vocab(result.model_.get());
    // libllama checks both only when it tokenizes, with an assertion.
    if (llama_vocab_get_add_bos(result.vocab_) && llama_vocab_bos(result.vocab_) == LLAMA_TOKEN_NULL)
        return fail(Error::Code::corrupt,
                    path + ": the vocabulary puts a first token before every text but does not say which one");
    if (llama_vocab_get_add_eos(result.vocab_) && llama_vocab_eos(result.vocab_) == LLAMA_TOKEN_NULL)
        return fail(Error::Code::corrupt,
                    path + ": the vocabulary puts a last token after every text but does not say which one");
    result.controls_ = ControlTexts(result.vocab_);
    constexpr SpecialTokens kNone{.around = false, .written_out = false};
    const auto letter = result.tokenize("a", kNone);
    result.adds_space_ = letter && !letter->empty() && result.piece(letter->front()).starts_with(' ');
    result.newline_ = result.tokenize("\n", kNone).value_or(std::vector<int32_t>());
    return result;
}

int32_t Vocabulary::n_tokens() const {
    return llama_vocab_n_tokens(vocab_);
}

bool Vocabulary::is_end_of_generation(int32_t token) const {
    return llama_vocab_is_eog(vocab_, token);
}

bool Vocabulary::has_text(int32_t token) const {
    constexpr int kNoText = LLAMA_TOKEN_ATTR_UNKNOWN | LLAMA_TOKEN_ATTR_CONTROL | LLAMA_TOKEN_ATTR_UNUSED;
    return !is_end_of_generation(token) && (llama_vocab_get_attr(vocab_, token) & kNoText) == 0;
}

Result<std::vector<int32_t>> Vocabulary::tokenize(std::string_view text, SpecialTokens special) const {
    if (text.size() > static_cast<size_t>(std::numeric_limits<int32_t>::max())) {
        return fail("a text of more than 2 GiB cannot be tokenized at once: split it");
    }
    const auto length = static_cast<int32_t>(text.size());
    std::vector<int32_t> tokens(text.size() + 2);
    try {
        int32_t n = llama_tokenize(vocab_, text.data(), length, tokens.data(), static_cast<int32_t>(tokens.size()),
                                   special.around, special.written_out);
        if (n < 0) {
            tokens.resize(static_cast<size_t>(-static_cast<int64_t>(n)));
            n = llama_tokenize(vocab_, text.data(), length, tokens.data(), static_cast<int32_t>(tokens.size()),
                               special.around, special.written_out);
        }
        tokens.resize(static_cast<size_t>(std::max(n, 0)));
        // If the first token is also written out at the beginning of the text, keep only one of the two.
        const auto first = first_token();
        const size_t n_around = last_token() ? 2 : 1;
        if (special.around && first && tokens.size() > n_around && tokens[0] == *first && tokens[1] == *first)
            tokens.erase(tokens.begin());
    } catch (const std::exception&) {
        return fail("the text contains characters that this model's vocabulary cannot express");
    }
    return tokens;
}

std::optional<int32_t> Vocabulary::first_token() const {
    if (!llama_vocab_get_add_bos(vocab_)) return std::nullopt;
    return llama_vocab_bos(vocab_);
}

std::optional<int32_t> Vocabulary::last_token() const {
    if (!llama_vocab_get_add_eos(vocab_)) return std::nullopt;
    return llama_vocab_eos(vocab_);
}

Result<std::vector<int32_t>> Vocabulary::tokenize_on(std::string_view text, bool written_out) const {
    const SpecialTokens in_text{.around = false, .written_out = written_out};
    if (adds_space_) {
        // Let the tokenizer add its space before a line break, then drop both.
        auto tokens = tokenize("\n" + std::string(text), in_text);
        if (!tokens) return tokens;
        if (std::ranges::starts_with(*tokens, newline_)) {
            tokens->erase(tokens->begin(), tokens->begin() + static_cast<ptrdiff_t>(newline_.size()));
            return tokens;
        }
    }
    return tokenize(text, in_text);
}

std::optional<int32_t> Vocabulary::end_token() const {
    const int32_t token = llama_vocab_eos(vocab_);
    return token < 0 ? std::nullopt : std::optional(token);
}

std::optional<Vocabulary::InfillTokens> Vocabulary::infill_tokens() const {
    const InfillTokens tokens{.prefix = llama_vocab_fim_pre(vocab_),
                              .suffix = llama_vocab_fim_suf(vocab_),
                              .middle = llama_vocab_fim_mid(vocab_),
                              .repository = llama_vocab_fim_rep(vocab_),
                              .file = llama_vocab_fim_sep(vocab_)};
    if (tokens.prefix < 0 || tokens.suffix < 0 || tokens.middle < 0) return std::nullopt;
    return tokens;
}

std::optional<std::string> Vocabulary::chat_template(const char* name) const {
    const char* text = llama_model_chat_template(model_.get(), name);
    if (text == nullptr) return std::nullopt;
    return text;
}

std::string token_piece(const llama_vocab* vocab, int32_t token, bool special) {
    std::string text(64, '\0');
    try {
        const auto write = [&] {
            return llama_token_to_piece(vocab, token, text.data(), static_cast<int32_t>(text.size()), 0, special);
        };
        int32_t n = write();
        if (n < 0) {
            text.resize(static_cast<size_t>(-n));
            n = write();
        }
        text.resize(static_cast<size_t>(std::max(n, 0)));
    } catch (const std::exception&) {
        text.clear();
    }
    return text;
}

}  // namespace cake
