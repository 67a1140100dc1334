#pragma once

#include <llama-cpp.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cake/error.hpp"
#include "text/control_texts.hpp"

struct gguf_context;

namespace cake {

/// libllama and ggml log to standard error; from here on they do not, since errors are returned.
void silence_libraries();

/// Which special tokens a text gets: those that the model puts around it, and those whose names are written out in it.
struct SpecialTokens {
    bool around = true;
    bool written_out = true;
};

/// The bytes of a token; a character may be spread over several. Control tokens give nothing, or where `special` says
/// so their names.
std::string token_piece(const llama_vocab* vocab, int32_t token, bool special = false);

/// A model's vocabulary and tokenizer, as libllama reads them.
class Vocabulary {
  public:
    /// `metadata` is the file's; what libllama would abort on is looked for there first.
    static Result<Vocabulary> load(const std::string& path, const gguf_context* metadata);

    const llama_vocab* get() const { return vocab_; }
    int32_t n_tokens() const;
    bool is_end_of_generation(int32_t token) const;

    /// Bytes that are not UTF-8 are kept as byte tokens where the vocabulary has them.
    Result<std::vector<int32_t>> tokenize(std::string_view text, SpecialTokens special = {}) const;

    /// The tokens of a text that goes on after another one, without those around a text: as the two texts together have
    /// them, where the second begins with a space or a line.
    Result<std::vector<int32_t>> tokenize_on(std::string_view text, bool written_out = true) const;

    /// The tokens that stand before and behind every text, where the model was trained so.
    std::optional<int32_t> first_token() const;
    std::optional<int32_t> last_token() const;

    /// The chat template in the file, or the one of that name beside it; none where there is none.
    std::optional<std::string> chat_template(const char* name = nullptr) const;

    /// What is a control token where a text may write them out.
    const ControlTexts& controls() const { return controls_; }

    std::string piece(int32_t token, bool special = false) const { return token_piece(vocab_, token, special); }

  private:
    llama_model_ptr model_;
    const llama_vocab* vocab_ = nullptr;
    ControlTexts controls_;
    bool adds_space_ = false;       // before the first word of whatever is tokenized
    std::vector<int32_t> newline_;  // tokens of a text that is one
};

}  // namespace cake
