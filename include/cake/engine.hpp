#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cake/chat.hpp"
#include "cake/device.hpp"
#include "cake/error.hpp"
#include "cake/export.hpp"
#include "cake/sequence.hpp"

namespace cake {

struct EngineOptions {
    int32_t threads = 0;    // 0: one for each core that the process may use, within the CPU quota of its container
    int32_t n_batch = 512;  // tokens in a chunk of a prefill, 1 to 8,192
    bool repack = true;     // copy weights into a faster layout if there is one; false: use them from the mapped file
    bool ggml_attention = false;  // compute attention with ggml instead of our own kernels, for comparison
    DeviceOptions devices{};
};

/// Description of a GGUF model.
struct ModelInfo {
    std::string path;     // path of the first file
    int32_t n_files = 1;  // number of files; more than 1 for a split model
    /// The devices that compute the layers, in their order; empty: the CPU computes all. The last one also computes the
    /// output, which counts as a layer.
    std::vector<DeviceLayers> devices;
    std::string name;
    std::string architecture;
    int32_t n_layer = 0;
    int32_t n_kv_layers = 0;      // number of layers that hold tokens
    int32_t n_swa = 0;            // size of the sliding window in tokens; 0: no layer has one
    int32_t n_swa_layers = 0;     // number of layers that hold the tokens of a sliding window
    int32_t n_shared_layers = 0;  // number of layers that read the K and V of earlier ones
    /// Number of layers that hold a state of fixed size, instead of tokens or beside them.
    int32_t n_recurrent_layers = 0;
    uint64_t recurrent_bytes = 0;  // size of these states, for one text
    int32_t n_expert = 0;          // number of experts; 0: dense feed-forward
    int32_t n_expert_used = 0;
    int32_t n_embd = 0;
    int32_t n_ff = 0;
    int32_t n_head = 0;
    int32_t n_head_kv = 0;
    int32_t head_dim_k = 0;
    int32_t head_dim_v = 0;
    int32_t n_head_kv_swa = 0;  // the same in layers with a sliding window
    int32_t head_dim_k_swa = 0;
    int32_t n_vocab = 0;
    int32_t n_ctx_train = 0;
    uint64_t n_params = 0;
    uint64_t weight_bytes = 0;
    std::string weight_types;  // types by share of bytes, largest first: "Q4_0 78%, Q6_K 22%"
};

/// Bytes of K and V for one token.
struct KvTokenBytes {
    uint64_t layer = 0;      // in a layer that attends to the whole text
    uint64_t swa_layer = 0;  // in a layer with a sliding window
};

/// Number of layers that a device has room for, beside some hundred MiB for K/V and intermediate results, if it has
/// room for the output, which counts as one of them. At most ModelInfo::n_layer + 1; see DeviceOptions::n_gpu_layers.
CAKE_API int32_t layers_with_room(const DeviceInfo& device, const ModelInfo& model);

struct EngineState;

/// A loaded model. Sequences share it and keep it alive; sequences on different threads take turns computing.
class CAKE_API Engine {
  public:
    /// For a model that is split over several files, `path` is the first of them.
    static Result<Engine> load(const std::string& path, const EngineOptions& options = {});
    Result<Sequence> sequence(const SequenceOptions& options = {}) const;

    /// `special`: add the tokens that the model puts around a text, and recognise special tokens that are written out
    /// in it. The first token is not added if the text already begins with it.
    Result<std::vector<Token>> tokenize(std::string_view text, bool special = true) const;
    /// The token that precedes every text (BOS), if the model was trained with one.
    std::optional<Token> first_token() const;
    /// Renders a conversation with the model's chat template, or with the one in `options`. chat_tokens() returns the
    /// tokens of the same text. The text does not include the first token, which precedes every text. Fails if there is
    /// no template, if the template is faulty, or if it rejects the conversation.
    Result<std::string> chat_prompt(std::span<const ChatMessage> messages, const ChatOptions& options) const;
    /// The same with a template that libllama knows by name (chatml, llama3, …), or with the model's if the name is
    /// empty.
    Result<std::string> chat_prompt(std::span<const ChatMessage> messages, bool answer = true,
                                    const std::string& template_name = {}) const;
    /// The same for a single user message.
    Result<std::string> chat_prompt(const std::string& message) const;
    /// True if the model file has a chat template.
    bool has_chat_template() const;
    /// Tokens of a conversation from its beginning. Only the template yields control tokens; one that is written out in
    /// a message is tokenized as text.
    Result<std::vector<Token>> chat_tokens(std::span<const ChatMessage> messages,
                                           const ChatOptions& options = {}) const;
    /// The bytes of a token. A character may be spread over several tokens.
    /// `special`: also the text of control tokens, which is empty otherwise.
    std::string piece(Token token, bool special = false) const;
    /// True if this token ends an answer.
    bool is_end_of_generation(Token token) const;

    const ModelInfo& info() const;
    /// Number of compute threads.
    int32_t threads() const;
    /// Bytes of K and V for one token in one layer, all KV heads.
    Result<KvTokenBytes> kv_token_bytes(const std::string& cache_type_k, const std::string& cache_type_v) const;
    /// Bytes that all layers hold of a text of `n_tokens` tokens, with the states of recurrent layers, if those that
    /// attend to the whole text keep at most `per_layer` tokens and the others keep their sliding window.
    uint64_t kv_bytes(const KvTokenBytes& token, int64_t n_tokens, int64_t per_layer) const;

  private:
    friend struct EngineAccess;
    explicit Engine(std::shared_ptr<const EngineState> state);

    std::shared_ptr<const EngineState> state_;
};

}  // namespace cake
