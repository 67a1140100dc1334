#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cake/chat.hpp"
#include "cake/error.hpp"
#include "cake/export.hpp"
#include "cake/sequence.hpp"

namespace cake {

struct EngineOptions {
    int32_t threads = 0;    // 0: one for each core that the process may use, within its container's CPU quota
    int32_t n_batch = 512;  // tokens in a chunk of the prefill, 1 to 8,192
    bool repack = true;  // copy weights into a faster layout where there is one; false: leave them in the mapped file
    bool ggml_attention = false;  // attention as ggml computes it, instead of the kernels of our own; to compare with
};

/// What a GGUF file is.
struct ModelInfo {
    std::string path;     // the first file
    int32_t n_files = 1;  // more than 1 for a split model
    std::string name;
    std::string architecture;
    int32_t n_layer = 0;
    int32_t n_swa = 0;         // tokens of the sliding window that some layers attend to; 0: none does
    int32_t n_swa_layers = 0;  // these
    int32_t n_expert = 0;      // 0: one feed-forward for all tokens
    int32_t n_expert_used = 0;
    int32_t n_embd = 0;
    int32_t n_ff = 0;
    int32_t n_head = 0;
    int32_t n_head_kv = 0;
    int32_t head_dim_k = 0;
    int32_t head_dim_v = 0;
    int32_t n_vocab = 0;
    int32_t n_ctx_train = 0;
    uint64_t n_params = 0;
    uint64_t weight_bytes = 0;
    std::string weight_types;  // by share, largest first: "Q4_0 78%, Q6_K 22%"

    /// Tokens in all layers together that are held of a text, where those that attend to all of it keep at most
    /// `per_layer` and the others their window.
    int64_t tokens_held(int64_t n_tokens, int64_t per_layer) const {
        const int64_t n_window_tokens = n_tokens < n_swa ? n_tokens : n_swa;
        return (n_layer - n_swa_layers) * (n_tokens < per_layer ? n_tokens : per_layer) +
               n_swa_layers * n_window_tokens;
    }
};

struct EngineState;

/// A loaded model. Sequences share it and keep it alive; those on different threads take turns in computing.
class CAKE_API Engine {
  public:
    /// `path` of a model that is split over several files is that of the first.
    static Result<Engine> load(const std::string& path, const EngineOptions& options = {});
    explicit Engine(std::shared_ptr<const EngineState> state);

    Result<Sequence> sequence(const SequenceOptions& options = {}) const;

    /// `special`: with the tokens that the model puts around a text, and those that are written out in it. The first
    /// token is not doubled if the text already begins with it.
    Result<std::vector<Token>> tokenize(std::string_view text, bool special = true) const;
    /// The token that stands before every text, where the model was trained so.
    std::optional<Token> first_token() const;
    /// A conversation in the model's chat template, or in another one that `options` name: what chat_tokens() gives the
    /// tokens of, without the first token, which stands before every text. An error if there is no template, if it
    /// fails, or if it refuses the conversation.
    Result<std::string> chat_prompt(std::span<const ChatMessage> messages, const ChatOptions& options) const;
    /// The same with a template that libllama knows by name (chatml, llama3, …), or with the model's.
    Result<std::string> chat_prompt(std::span<const ChatMessage> messages, bool answer = true,
                                    const std::string& template_name = {}) const;
    /// The same of one message of a user.
    Result<std::string> chat_prompt(const std::string& message) const;
    /// Whether the model's file has a chat template.
    bool has_chat_template() const;
    /// The tokens of a conversation from its beginning. Control tokens are those of the template alone: one that is
    /// written out in a message is text.
    Result<std::vector<Token>> chat_tokens(std::span<const ChatMessage> messages,
                                           const ChatOptions& options = {}) const;
    /// The bytes of a token; a character may be spread over several tokens.
    std::string piece(Token token) const;
    /// Whether a model that draws this token has ended its answer.
    bool is_end_of_generation(Token token) const;

    const ModelInfo& info() const;
    /// That compute.
    int32_t threads() const;
    /// What sequences share; opaque outside the library.
    const std::shared_ptr<const EngineState>& state() const { return state_; }
    /// Bytes of K and V of one token in one layer.
    Result<uint64_t> kv_bytes_per_token_and_layer(const std::string& cache_type_k,
                                                  const std::string& cache_type_v) const;

  private:
    std::shared_ptr<const EngineState> state_;
};

}  // namespace cake
