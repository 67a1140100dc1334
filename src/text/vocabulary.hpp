#pragma once

#include <llama-cpp.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cake/error.hpp"
#include "text/control_texts.hpp"
#include "text/guide_tokens.hpp"

struct gguf_context;

namespace cake {

/// Stops libllama and ggml from logging to standard error. Errors are returned instead.
void silence_libraries();

/// Special tokens to use when a text is tokenized.
struct SpecialTokens {
    bool around = true;       // add those that the model puts around a text
    bool written_out = true;  // recognise those whose names are written out in the text
};

/// The bytes of a token. A character may be spread over several tokens. Control tokens have no bytes; with `special`,
/// their names are returned.
std::string token_piece(const llama_vocab* vocab, int32_t token, bool special = false);

/// The vocabulary and tokenizer of a model, loaded by libllama.
class Vocabulary {
  public:
    /// `metadata` is the metadata of the file. It is checked first for errors on which libllama would abort.
    static Result<Vocabulary> load(const std::string& path, const gguf_context* metadata);

    const llama_vocab* get() const { return vocab_; }
    int32_t n_tokens() const;
    bool is_end_of_generation(int32_t token) const;

    /// Bytes that are not UTF-8 become byte tokens if the vocabulary has them.
    Result<std::vector<int32_t>> tokenize(std::string_view text, SpecialTokens special = {}) const;

    /// Tokens of a text that continues another one, without those around a text. They are the same as in the
    /// concatenation of the two texts if the second one begins with a space or a line break.
    Result<std::vector<int32_t>> tokenize_on(std::string_view text, bool written_out = true) const;

    /// The tokens that precede and follow every text, if the model was trained with them.
    std::optional<int32_t> first_token() const;
    std::optional<int32_t> last_token() const;
    /// The token that ends a text that the model writes.
    std::optional<int32_t> end_token() const;

    /// Tokens with which models for code fill in the middle of a text; without a value if the model has none of the
    /// first three.
    struct InfillTokens {
        int32_t prefix = -1;
        int32_t suffix = -1;
        int32_t middle = -1;
        int32_t repository = -1;  // before the name of a repository; -1: none
        int32_t file = -1;        // before the path of a file; -1: none
    };
    std::optional<InfillTokens> infill_tokens() const;

    /// The default chat template in the file, or the one called `name`, if there is one.
    std::optional<std::string> chat_template(const char* name = nullptr) const;

    /// False for control tokens, such as those that end an answer.
    bool has_text(int32_t token) const;

    /// The control tokens that can be written out in a text.
    const ControlTexts& controls() const { return controls_; }

    std::string piece(int32_t token, bool special = false) const { return token_piece(vocab_, token, special); }

    /// The tokens for constraints of llguidance.
    Result<std::shared_ptr<const GuideTokens>> guide_tokens() const { return guide_tokens_->get(*this); }

  private:
    llama_model_ptr model_;
    const llama_vocab* vocab_ = nullptr;
    ControlTexts controls_;
    std::shared_ptr<SharedGuideTokens> guide_tokens_ = std::make_shared<SharedGuideTokens>();
    bool adds_space_ = false;       // true if the tokenizer adds a space before the first word of a text
    std::vector<int32_t> newline_;  // tokens of the text "\n"
};

}  // namespace cake
