#pragma once

#include <llama-cpp.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cake/error.hpp"

struct gguf_context;

namespace cake {

/// libllama and ggml log to standard error; from here on they do not, since errors are returned.
void silence_libraries();

/// A model's vocabulary and tokenizer, as libllama reads them.
class Vocabulary {
  public:
    /// `metadata` is the file's; what libllama would abort on is looked for there first.
    static Result<Vocabulary> load(const std::string& path, const gguf_context* metadata);

    int32_t n_tokens() const;
    bool is_end_of_generation(int32_t token) const;

    /// Bytes that are not UTF-8 are kept as byte tokens where the vocabulary has them. `special`: with the tokens that
    /// the model puts around a text, and those that are written out in it.
    Result<std::vector<int32_t>> tokenize(std::string_view text, bool special = true) const;

    /// The token that stands before every text, where the model was trained so.
    std::optional<int32_t> first_token() const;

    /// What a user says, in the model's chat template, up to where the answer begins; an error where there is none that
    /// libllama knows.
    Result<std::string> chat_prompt(const std::string& message) const;

    /// The bytes of a token; a character may be spread over several. Control tokens give nothing.
    std::string piece(int32_t token) const;

  private:
    llama_model_ptr model_;
    const llama_vocab* vocab_ = nullptr;
};

}  // namespace cake
