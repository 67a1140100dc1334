#pragma once

#include <gtest/gtest.h>
#include <llama-cpp.h>

#include <string>
#include <string_view>
#include <vector>

namespace cake {

/// The bundled model's vocabulary.
inline const llama_vocab* test_vocabulary() {
    static const llama_model_ptr model = [] {
        llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
        llama_model_params params = llama_model_default_params();
        params.vocab_only = true;
        return llama_model_ptr(llama_model_load_from_file(CAKE_MODELS "/cake-mini.gguf", params));
    }();
    return llama_model_get_vocab(model.get());
}

inline std::vector<llama_token> test_tokens(std::string_view text) {
    std::vector<llama_token> tokens(text.size() + 8);
    const int32_t n = llama_tokenize(test_vocabulary(), text.data(), static_cast<int32_t>(text.size()), tokens.data(),
                                     static_cast<int32_t>(tokens.size()), false, false);
    tokens.resize(n > 0 ? static_cast<size_t>(n) : 0);
    return tokens;
}

/// Checks which texts a grammar allows, with libllama's own parser.
class GrammarReader {
  public:
    explicit GrammarReader(const std::string& gbnf)
        : sampler_(llama_sampler_init_grammar(test_vocabulary(), gbnf.c_str(), "root")) {
        EXPECT_NE(sampler_, nullptr) << gbnf;
    }

    /// Whether the grammar allows the text as a whole.
    bool accepts(std::string_view text) { return begins(text) && allows(llama_vocab_eos(test_vocabulary())); }

    /// Whether the text is the beginning of one that the grammar allows.
    bool begins(std::string_view text) {
        llama_sampler_reset(sampler_.get());
        for (const llama_token token : test_tokens(text)) {
            if (!allows(token)) return false;
            llama_sampler_accept(sampler_.get(), token);
        }
        return true;
    }

  private:
    bool allows(llama_token token) {
        llama_token_data candidate{.id = token, .logit = 0, .p = 0};
        llama_token_data_array candidates{.data = &candidate, .size = 1, .selected = -1, .sorted = false};
        llama_sampler_apply(sampler_.get(), &candidates);
        return candidate.logit == 0;
    }

    llama_sampler_ptr sampler_;
};

}  // namespace cake
